// Compute the stages of one level together, image by image: all first stages of a node, or all second ones.
//
// A stage reads its input, through the previous BatchNorm if there is one, and writes z together with its mean and variance. The
// intermediate values of one image stay in cache and are never stored; the backward computes them again.
#pragma once

#include "stage.h"

namespace oche {

// One stage to compute, with its buffers.
template <typename T> struct Job {
  Stage<T> stage;
  T* z = nullptr;                 // forward: the output
  const T *g = nullptr, *zin = nullptr;  // backward: the gradient of z is a g + b zin + c
  Channels<T> a, b, c;
  double* stats = nullptr;        // (2, C): mean and biased variance
  I at = 0;                       // offset of its weight gradients in each thread's buffer
};

template <typename T> struct Group {  // jobs that read the same input
  const T* x = nullptr;
  bool normed = false;
  Channels<T> scale, shift;
  std::vector<Job<T>> jobs;
  T* gx = nullptr;                // backward: the gradient of the ReLU's input is added here
  double* moments = nullptr;      // (2, C): sums of that gradient, and of its product with the input
};

struct Geometry {  // of an input, and the stride
  I B, C, H, W, s;
  bool operator==(const Geometry& o) const { return B == o.B && C == o.C && H == o.H && W == o.W && s == o.s; }
};

// Return the layout of P for all groups, and set the tap offsets of their stages.
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

// Copy n pixels from rows of Cs channels to rows of C.
template <typename T> void to_pixels(T* to, const T* from, I n, I C, I Cs) {
  if (C == Cs) std::copy_n(from, n * C, to);
  else for (I p = 0; p < n; ++p) std::copy_n(from + p * Cs, C, to + p * C);
}

// Compute z and its statistics for every job.
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

// GZ (Ho x Wr pixels, Cs) = a g + b z + c of one image, padded with zeros.
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

// Where the gradients of one level go: its layout, and the sizes of a thread's buffers.
template <typename T> struct Backward {
  const Geometry& q;
  Frame f;
  const bool need_w;
  I widest = 0, weights = 0;  // channels of the widest output; number of weight gradients
  I top = 0, left = 0;        // how far taps reach up and left, in pixels of a phase
  bool dense = false;         // whether there are dense stages
  I G, Wr, cs;                // pixels per vector; width of an output row, rounded up to G; channels as stored
  I Hd, Wd;                   // size of the padded gradient of the depthwise output

  Backward(std::vector<Group<T>*>& groups, const Geometry& geometry, bool weights_too)
      : q(geometry), f(frame(groups, geometry)), need_w(weights_too) {
    for (auto* g : groups)
      for (auto& j : g->jobs) {
        widest = std::max(widest, j.stage.out.Cs);
        dense = dense || !j.stage.depthwise;
        j.at = weights;
        weights += need_w ? j.stage.weights() : 0;
        for (I t = 0; t < j.stage.conv.taps; ++t) {
          top = std::max(top, (f.m + j.stage.conv.dy(t)) / f.s);
          left = std::max(left, (f.m + j.stage.conv.dx(t)) / f.s);
        }
      }
    G = groups[0]->jobs[0].stage.in.G;
    Wr = up(f.Wo, G);
    cs = f.Cs;
    Wd = f.Wq + left + 2 * G;
    Hd = f.Hq + top;
  }

  // The buffers of one thread.
  struct Buffers {
    Buffer<T> P, GZ, D, GD, R, GP;  // input; gradients of z, of the depthwise output, of a row of the input, and of P (dense stages)
    Buffer<T> t, w;
    std::vector<I> off;
    explicit Buffers(const Backward& l)
        : P(l.f.size() + 2 * L<T>, 0), GZ(l.f.Ho * l.Wr * l.widest + L<T>, 0), D(l.Wr * l.cs + L<T>, 0),
          GD(l.Hd * l.Wd * l.cs + 2 * L<T>, 0), R(up(l.f.W + l.G, l.G) * l.cs + L<T>, 0),
          GP(l.dense ? l.f.size() + 2 * L<T> : 0, 0) {}
  };

  // From GZ to the gradient of the depthwise output (GD) or of P (GP), and to the weight gradients at `myw`.
  void through_convolutions(Buffers& u, const Stage<T>& st, T* myw) const {
    T* of_dense = myw + (st.depthwise ? st.conv.taps * st.ws : 0);
    if (!st.depthwise) std::fill(u.GP.begin(), u.GP.end(), T(0));
    for (I y = 0; y < f.Ho; ++y) {
      const T *gz = u.GZ.data() + y * Wr * st.out.Cs, *src = u.P.data() + y * f.Wq * cs;
      if (st.depthwise) {
        st.template unmix_row<false>(u.GD.data() + ((y + top) * Wd + left) * cs, gz, Wr, 0);
        if (need_w) {
          st.depth_row(u.D.data(), u.P.data(), f, y, Wr);
          st.gather_row(of_dense, gz, u.D.data(), Wr, 0);
        }
      } else {
        for (I tap = 0; tap < st.conv.taps; ++tap) {
          st.template unmix_row<true>(u.GP.data() + y * f.Wq * cs + st.off[tap], gz, Wr, tap);
          if (need_w) st.gather_row(of_dense, gz, src + st.off[tap], Wr, tap);
        }
      }
    }
    if (need_w && st.depthwise)
      for (I c = 0; c < st.in.vectors; ++c)
        tapgrad(myw + c * L<T>, st.ws, u.P.data() + c * L<T>, f.Wq * cs, u.GD.data() + (top * Wd + left) * cs + c * L<T>, Wd * cs,
                G > 1 ? L<T> : cs, f.Ho, G > 1 ? Wr / G : f.Wo, st.off.data(), st.conv.taps);
  }

  // Collect the taps of a depthwise convolution that read phase (qy, qx), transposed: their offsets in GD and their weights.
  void taps_of_phase(Buffers& u, const Stage<T>& st, I qy, I qx) const {
    u.off.clear();
    u.w.clear();
    for (I tap = 0; tap < st.conv.taps; ++tap) {
      I ay = f.m + st.conv.dy(tap), ax = f.m + st.conv.dx(tap);
      if (ay % f.s != qy || ax % f.s != qx) continue;
      u.off.push_back(-(ay / f.s * Wd + ax / f.s) * cs);
      u.w.insert(u.w.end(), st.dw.begin() + tap * st.ws, st.dw.begin() + (tap + 1) * st.ws);
    }
  }

  // The gradient of n pixels of P, row iy of a phase from column ix on.
  const T* row_of_input(Buffers& u, const Stage<T>& st, I phase, I iy, I ix, I n) const {
    if (!st.depthwise) return u.GP.data() + (phase * f.Hq + iy) * f.Wq * cs + ix * cs;
    const T* src = u.GD.data() + ((iy + top) * Wd + ix + left) * cs;
    const I nt = u.off.size();
    if (G > 1) taps_row(u.R.data(), src, L<T>, up(n, G) / G, u.off.data(), u.w.data(), st.ws, nt);
    else
      for (I c = 0; c < st.in.vectors; ++c)
        taps_row(u.R.data() + c * L<T>, src + c * L<T>, cs, n, u.off.data(), u.w.data() + c * L<T>, st.ws, nt);
    return u.R.data();
  }

  // Add the gradient of one image to gxi, through the ReLU, row by row of each phase.
  void to_input(Buffers& u, const Stage<T>& st, T* gxi) const {
    for (I phase = 0; phase < f.s * f.s; ++phase) {
      const I qy = phase / f.s, qx = phase % f.s;
      if (st.depthwise) {
        taps_of_phase(u, st, qy, qx);
        if (u.off.empty()) continue;
      }
      const I first = ((qx - f.m) % f.s + f.s) % f.s, n = (f.W - first + f.s - 1) / f.s, ix = (first + f.m) / f.s;
      for (I y = ((qy - f.m) % f.s + f.s) % f.s; y < f.H; y += f.s) {
        const T* row = row_of_input(u, st, phase, (y + f.m) / f.s, ix, n);
        const T* was = u.P.data() + f.at(y, first);
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
};

// Compute the gradients of inputs and, if `need_w`, of weights, for every job. `weight_sums` receives the latter.
template <typename T>
void backward(std::vector<Group<T>*>& groups, const Geometry& q, bool need_w, Buffer<T>& weight_sums) {
  const Backward<T> level(groups, q, need_w);
  const Frame& f = level.f;
  const I threads = at::get_num_threads(), weights = level.weights;
  Buffer<T> shares(threads * weights, 0);  // of each thread
  std::vector<double> moments(threads * groups.size() * 2 * q.C, 0.0);
  at::parallel_for(0, q.B, 1, [&](I begin, I end) {
    const I tid = at::get_thread_num();
    typename Backward<T>::Buffers u(level);
    for (I b = begin; b < end; ++b)
      for (size_t i = 0; i < groups.size(); ++i) {
        auto& group = *groups[i];
        const T* xi = group.x + b * q.C * f.H * f.W;
        T* gxi = group.gx + b * q.C * f.H * f.W;
        fill(u.P.data(), f, xi, q.C, group.normed ? &group.scale : nullptr, &group.shift);
        for (auto& job : group.jobs) {
          before_norm(u.GZ.data(), job, f, level.Wr, b * job.stage.out.C * f.Ho * f.Wo);
          level.through_convolutions(u, job.stage, shares.data() + tid * weights + job.at);
          level.to_input(u, job.stage, gxi);
        }
        if (group.moments) {
          double* m = moments.data() + (tid * groups.size() + i) * 2 * q.C;
          sums(m, m + q.C, gxi, xi, f.H * f.W, q.C, u.t);
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
