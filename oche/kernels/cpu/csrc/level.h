// Stages that are computed together, image by image: all first ones of a node, or all second ones.
// 
// A stage reads its input, through the BatchNorm in front of it if there is one, and writes z, whose mean and variance it sums up as
// it goes. Everything between input and z of one image stays in cache and is never stored: the backward computes it again.
#pragma once

#include "stage.h"

namespace oche {

template <typename T> struct Job {
  Stage<T> stage;
  T* z = nullptr;                 // forward: where it goes
  const T *g = nullptr, *zin = nullptr;  // backward: gradient = a g + b z + c
  Channels<T> a, b, c;
  double* stats = nullptr;        // (2, C): mean and biased variance
  I at = 0;                       // where its weight gradients start in a thread's share
};

template <typename T> struct Group {  // jobs that read one input
  const T* x = nullptr;
  bool normed = false;
  Channels<T> scale, shift;
  std::vector<Job<T>> jobs;
  T* gx = nullptr;                // backward: gradient behind the ReLU; filled before
  double* moments = nullptr;      // (2, C): sums of that gradient, and of it times the input
};

struct Geometry {
  I B, C, H, W, s;
  bool operator==(const Geometry& o) const { return B == o.B && C == o.C && H == o.H && W == o.W && s == o.s; }
};

template <typename T> Frame frame(std::vector<Group<T>*>& groups, const Geometry& q) {
  I margin = 0;
  for (auto* g : groups)
    for (auto& j : g->jobs) margin = std::max(margin, j.stage.conv.reach());
  const Shape& in = groups[0]->jobs[0].stage.in;
  Frame f(q.H, q.W, q.s, margin, in.Cs, in.G);
  for (auto* g : groups)
    for (auto& j : g->jobs) j.stage.place(f);
  return f;
}

template <typename T> void to_pixels(T* to, const T* from, I n, I C, I Cs) {
  if (C == Cs) std::copy_n(from, n * C, to);
  else for (I p = 0; p < n; ++p) std::copy_n(from + p * Cs, C, to + p * C);
}

template <typename T> void forward(std::vector<Group<T>*>& groups, const Geometry& q) {
  Frame f = frame(groups, q);
  I widest = 0, count = 0;
  for (auto* g : groups)
    for (auto& j : g->jobs) { widest = std::max(widest, j.stage.out.C); ++count; }
  const I threads = at::get_num_threads();
  std::vector<double> partial(threads * count * 2 * widest, 0.0);
  at::parallel_for(0, q.B, 1, [&](I begin, I end) {
    double* mine = partial.data() + at::get_thread_num() * count * 2 * widest;
    const I Wr = up(f.Wo, groups[0]->jobs[0].stage.in.G), wide = up(widest, L<T>);
    Buffer<T> P(f.size() + 2 * L<T>, 0), D(Wr * f.Cs + L<T>), Z(Wr * wide + L<T>), t;
    for (I b = begin; b < end; ++b) {
      I i = 0;
      for (auto* g : groups) {
        fill(P.data(), f, g->x + b * q.C * f.H * f.W, q.C, g->normed ? &g->scale : nullptr, &g->shift);
        for (auto& job : g->jobs) {
          auto& st = job.stage;
          T* z = job.z + b * st.out.C * f.Ho * f.Wo;
          bool direct = st.out.C == st.out.Cs && Wr == f.Wo;
          for (I y = 0; y < f.Ho; ++y) {
            T* row = z + y * f.Wo * st.out.C;
            st.forward_row(direct ? row : Z.data(), D.data(), P.data(), f, y, Wr);
            if (!direct) to_pixels(row, Z.data(), f.Wo, st.out.C, st.out.Cs);
          }
          sums(mine + 2 * i * widest, mine + (2 * i + 1) * widest, z, z, f.Ho * f.Wo, st.out.C, t);
          ++i;
        }
      }
    }
  });
  const double n = double(q.B) * f.Ho * f.Wo;
  I i = 0;
  for (auto* g : groups)
    for (auto& job : g->jobs) {
      I C = job.stage.out.C;
      for (I c = 0; c < C; ++c) {
        double s0 = 0, s1 = 0;
        for (I k = 0; k < threads; ++k) {
          const double* p = partial.data() + ((k * count + i) * 2) * widest;
          s0 += p[c]; s1 += p[widest + c];
        }
        double mean = s0 / n, var = s1 / n - mean * mean;
        job.stats[c] = mean;
        job.stats[C + c] = var < 0 ? 0 : var;  // NaN stays NaN
      }
      ++i;
    }
}

// GZ (Ho x Wr pixels, Cs) = a g + b z + c, zeros behind
template <typename T> void before_norm(T* GZ, const Job<T>& job, const Frame& f, I Wr, I image) {
  const I C = job.stage.out.C, Cs = job.stage.out.Cs;
  const T *g = job.g + image, *z = job.zin + image, *a = job.a.v.data(), *b = job.b.v.data(), *c = job.c.v.data();
  if (C == Cs && Wr == f.Wo) {
    each<T>(f.Ho * f.Wo * C, C,
            [&](I e, I k) { store(GZ + e, load(a + k) * load(g + e) + load(b + k) * load(z + e) + load(c + k)); },
            [&](I e, I k) { GZ[e] = a[k] * g[e] + b[k] * z[e] + c[k]; });
    return;
  }
  std::fill_n(GZ, f.Ho * Wr * Cs, T(0));
  for (I y = 0; y < f.Ho; ++y)
    for (I px = 0; px < f.Wo; ++px) {
      T* to = GZ + (y * Wr + px) * Cs;
      I from = (y * f.Wo + px) * C;
      for (I k = 0; k < C; ++k) to[k] = a[k] * g[from + k] + b[k] * z[from + k] + c[k];
    }
}

template <typename T>
void backward(std::vector<Group<T>*>& groups, const Geometry& q, bool need_w, Buffer<T>& weight_sums) {
  Frame f = frame(groups, q);
  I widest = 0, weights = 0, top = 0, left = 0;
  bool dense = false;
  for (auto* g : groups)
    for (auto& j : g->jobs) {
      widest = std::max(widest, j.stage.out.Cs);
      dense = dense || !j.stage.depthwise;
      j.at = weights;
      weights += need_w ? j.stage.weights() : 0;
      for (I t = 0; t < j.stage.conv.taps; ++t) {  // how far taps reach back, in pixels of a phase
        top = std::max(top, (f.m + j.stage.conv.dy(t)) / f.s);
        left = std::max(left, (f.m + j.stage.conv.dx(t)) / f.s);
      }
    }
  const I threads = at::get_num_threads(), G = groups[0]->jobs[0].stage.in.G, Wr = up(f.Wo, G), cs = f.Cs;
  const I Wd = f.Wq + left + 2 * G, Hd = f.Hq + top;  // padded gradient of the depthwise output
  Buffer<T> shares(threads * weights, 0);
  std::vector<double> moments(threads * groups.size() * 2 * q.C, 0.0);
  at::parallel_for(0, q.B, 1, [&](I begin, I end) {
    const I tid = at::get_thread_num();
    T* myw = shares.data() + tid * weights;
    Buffer<T> P(f.size() + 2 * L<T>, 0), GZ(f.Ho * Wr * widest + L<T>, 0), D(Wr * cs + L<T>, 0), t;
    Buffer<T> GD(Hd * Wd * cs + 2 * L<T>, 0), R(up(f.W + G, G) * cs + L<T>, 0);
    Buffer<T> GP(dense ? f.size() + 2 * L<T> : 0, 0);  // gradient of P, for dense stages alone
    std::vector<I> off;
    Buffer<T> w;
    for (I b = begin; b < end; ++b)
      for (size_t i = 0; i < groups.size(); ++i) {
        auto& group = *groups[i];
        const T* xi = group.x + b * q.C * f.H * f.W;
        T* gxi = group.gx + b * q.C * f.H * f.W;
        fill(P.data(), f, xi, q.C, group.normed ? &group.scale : nullptr, &group.shift);
        for (auto& job : group.jobs) {
          auto& st = job.stage;
          const I zc = st.out.Cs;
          before_norm(GZ.data(), job, f, Wr, b * st.out.C * f.Ho * f.Wo);
          if (!st.depthwise) std::fill(GP.begin(), GP.end(), T(0));
          T* of_dense = myw + job.at + (st.depthwise ? st.conv.taps * st.ws : 0);
          for (I y = 0; y < f.Ho; ++y) {
            const T *gz = GZ.data() + y * Wr * zc, *src = P.data() + y * f.Wq * cs;
            if (st.depthwise) {
              st.template unmix_row<false>(GD.data() + ((y + top) * Wd + left) * cs, gz, Wr, 0);
              if (need_w) {
                st.depth_row(D.data(), P.data(), f, y, Wr);
                st.gather_row(of_dense, gz, D.data(), Wr, 0);
              }
            } else {
              for (I tap = 0; tap < st.conv.taps; ++tap) {
                st.template unmix_row<true>(GP.data() + y * f.Wq * cs + st.off[tap], gz, Wr, tap);
                if (need_w) st.gather_row(of_dense, gz, src + st.off[tap], Wr, tap);
              }
            }
          }
          if (need_w && st.depthwise)
            for (I c = 0; c < st.in.vectors; ++c)
              tapgrad(myw + job.at + c * L<T>, st.ws, P.data() + c * L<T>, f.Wq * cs,
                      GD.data() + (top * Wd + left) * cs + c * L<T>, Wd * cs, G > 1 ? L<T> : cs, f.Ho,
                      G > 1 ? Wr / G : f.Wo, st.off.data(), st.conv.taps);
          for (I phase = 0; phase < f.s * f.s; ++phase) {  // to the input, rows of each phase
            const I qy = phase / f.s, qx = phase % f.s;
            if (st.depthwise) {
              off.clear();
              w.clear();
              for (I tap = 0; tap < st.conv.taps; ++tap) {
                I ay = f.m + st.conv.dy(tap), ax = f.m + st.conv.dx(tap);
                if (ay % f.s != qy || ax % f.s != qx) continue;
                off.push_back(-(ay / f.s * Wd + ax / f.s) * cs);
                w.insert(w.end(), st.dw.begin() + tap * st.ws, st.dw.begin() + (tap + 1) * st.ws);
              }
              if (off.empty()) continue;
            }
            const I first = ((qx - f.m) % f.s + f.s) % f.s, n = (f.W - first + f.s - 1) / f.s, ix = (first + f.m) / f.s;
            for (I y = ((qy - f.m) % f.s + f.s) % f.s; y < f.H; y += f.s) {
              const I iy = (y + f.m) / f.s;
              const T* row = R.data();
              if (!st.depthwise) {
                row = GP.data() + (phase * f.Hq + iy) * f.Wq * cs + ix * cs;
              } else {
                const T* src = GD.data() + ((iy + top) * Wd + ix + left) * cs;
                if (G > 1) taps_row(R.data(), src, L<T>, up(n, G) / G, off.data(), w.data(), st.ws, (I)off.size());
                else
                  for (I c = 0; c < st.in.vectors; ++c)
                    taps_row(R.data() + c * L<T>, src + c * L<T>, cs, n, off.data(), w.data() + c * L<T>, st.ws,
                             (I)off.size());
              }
              const T* was = P.data() + f.at(y, first);
              T* to = gxi + (y * f.W + first) * q.C;
              if (f.s == 1 && cs == q.C)
                each<T>(n * cs, cs, [&](I e, I) { store(to + e, load(to + e) + (load(was + e) > 0 ? load(row + e) : V<T>{})); },
                        [&](I e, I) { to[e] += was[e] > 0 ? row[e] : T(0); });
              else
                for (I p = 0; p < n; ++p)
                  for (I c = 0; c < q.C; ++c) to[p * f.s * q.C + c] += was[p * cs + c] > 0 ? row[p * cs + c] : T(0);
            }
          }
        }
        if (group.moments) {
          double* m = moments.data() + (tid * groups.size() + i) * 2 * q.C;
          sums(m, m + q.C, gxi, xi, f.H * f.W, q.C, t);
        }
      }
  });
  for (size_t i = 0; i < groups.size(); ++i)
    if (groups[i]->moments)
      for (I e = 0; e < 2 * q.C; ++e) {
        double sum = 0;
        for (I k = 0; k < threads; ++k) sum += moments[(k * groups.size() + i) * 2 * q.C + e];
        groups[i]->moments[e] = sum;
      }
  weight_sums.assign(weights, 0);
  for (I k = 0; k < threads; ++k)
    for (I e = 0; e < weights; ++e) weight_sums[e] += shares[k * weights + e];
}

}  // namespace oche
