// The gradient of a node; see node.py for the formulas.
#pragma once

#include "node_forward.h"

namespace oche {

// With g the gradient of a normalised z: from sums of g and g z, those of g ẑ, and (a, b, c) of a g + b z + c, weight w in front.
struct Back { std::vector<double> ghat, a, b, c; };

Back back(const Norm& norm, double w, const double* sg, const double* sgz, bool bare) {
  size_t C = norm.mean.size();
  Back out{std::vector<double>(C), std::vector<double>(C), std::vector<double>(C, 0.0), std::vector<double>(C, 0.0)};
  for (size_t c = 0; c < C; ++c) {
    out.ghat[c] = (sgz[c] - norm.mean[c] * sg[c]) * norm.r[c];
    out.a[c] = w * norm.gamma[c] * norm.r[c];
    if (bare) continue;
    out.b[c] = -out.a[c] * norm.r[c] * out.ghat[c] / norm.count;
    out.c[c] = -out.a[c] * sg[c] / norm.count - out.b[c] * norm.mean[c];
  }
  return out;
}

Tensor channels_of(const std::vector<double>& v, double by, const Tensor& like) {
  Tensor t = at::empty({(I)v.size()}, at::kDouble);
  for (size_t c = 0; c < v.size(); ++c) t.mutable_data_ptr<double>()[c] = v[c] * by;
  return t.to(like.scalar_type());
}

template <typename T>
void node_backward_(const Tensor& g, at::TensorList xs, at::TensorList given, const Tensor& w, at::TensorList params,
                    const std::vector<Term>& terms, at::TensorList saved, at::IntArrayRef need_x, at::IntArrayRef need_given,
                    bool need_w, Tensor& gw, std::vector<Tensor>& gxs, std::vector<Tensor>& ggiven, std::vector<Tensor>& gparams) {
  const I C = g.size(1), pixels = g.numel() / C, n = terms.size(), threads = at::get_num_threads();
  const T* gp = g.const_data_ptr<T>();
  std::vector<std::vector<Tensor>> z(n);
  std::vector<std::vector<const double*>> stats(n);
  const double* sp = saved.back().const_data_ptr<double>();
  size_t next = 0, levels = 1;
  for (I i = 0; i < n; ++i) {
    levels = std::max(levels, terms[i].units.size());
    for (size_t u = 0; u < terms[i].units.size(); ++u) {
      I c = C;
      if (terms[i].kind == 0) { z[i].push_back(saved[next++]); c = z[i].back().size(1); }
      stats[i].push_back(sp);
      sp += 2 * c;
    }
    if (terms[i].kind == 1) z[i].push_back(given[terms[i].index]);
    if (terms[i].kind == 2) z[i].push_back(xs[terms[i].index]);
  }
  // Σ g and every Σ g z_i
  std::vector<double> partial(threads * (n + 1) * C, 0.0), sums_(  (n + 1) * C, 0.0);
  at::parallel_for(0, (pixels + TILE - 1) / TILE, 4, [&](I begin, I end) {
    double* mine = partial.data() + at::get_thread_num() * (n + 1) * C;
    std::vector<double> ignored(C);
    Buffer<T> t;
    for (I tile = begin; tile < end; ++tile) {
      const I from = tile * TILE, m = std::min(pixels, from + TILE) - from;
      for (I i = 0; i < n; ++i)
        sums(i ? ignored.data() : mine + n * C, mine + i * C, gp + from * C, z[i].back().template const_data_ptr<T>() + from * C, m, C, t);
    }
  });
  for (I k = 0; k < threads; ++k)
    for (I e = 0; e < (n + 1) * C; ++e) sums_[e] += partial[k * (n + 1) * C + e];
  const double* sg = sums_.data() + n * C;
  Tensor w64 = w.to(at::kDouble).contiguous(), gw64 = at::zeros({n}, at::kDouble);
  const double* weight = w64.const_data_ptr<double>();
  double* gwp = gw64.mutable_data_ptr<double>();
  // What goes back through each term's newest normalisation, and the gradient that stands behind it.
  std::vector<Back> now(n);
  std::vector<Tensor> grad(n, g);
  std::vector<std::vector<double>> moments(n);
  gparams.assign(params.size(), Tensor());
  auto put_affine = [&](const Unit& unit, const Back& b, const double* s, double by) {
    if (!unit.affine || !need_w) return;
    I at = unit.params + unit.convs();
    gparams[at] = channels_of(b.ghat, by, params[at]);
    gparams[at + 1] = channels_of(std::vector<double>(s, s + b.ghat.size()), by, params[at]);
  };
  for (I i = 0; i < n; ++i) {
    auto& units = terms[i].units;
    Norm norm(units.empty() ? nullptr : &units.back(), units.empty() ? nullptr : stats[i].back(), C, pixels, params);
    now[i] = back(norm, weight[i], sg, sums_.data() + i * C, units.empty());
    for (I c = 0; c < C; ++c) gwp[i] += norm.gamma[c] * now[i].ghat[c] + norm.beta[c] * sg[c];
    if (!units.empty()) put_affine(units.back(), now[i], sg, weight[i]);
  }
  gw = gw64.to(w.scalar_type());
  gxs.assign(xs.size(), Tensor());
  for (size_t level = levels; level-- > 0;) {
    Groups<T> made;
    auto& groups = made.all;
    std::vector<std::pair<I, std::pair<size_t, size_t>>> where;  // term -> (group, job)
    std::vector<Tensor> keep;
    for (I i = 0; i < n; ++i) {
      auto& term = terms[i];
      if (term.kind != 0 || term.units.size() <= level) continue;
      if (!level && !need_w && !need_x[term.index]) continue;
      const Unit& unit = term.units[level];
      const Tensor& x = level ? z[i][level - 1] : xs[term.index];
      Parts p = parts(unit, params);
      I cout = 0;
      for (auto& d : p.dense) cout += d.size(0);
      bool pack = cout == x.size(1);
      Geometry q = geometry(x, unit.stride);
      auto [at, first] = made.place(term.index, pack, q, level > 0);
      if (first) {
        Group<T>& group = groups.back().second;
        group.x = x.const_data_ptr<T>();
        Tensor gx;
        if (level) {
          read_through(group, Norm(&term.units[level - 1], stats[i][level - 1], q.C, double(x.numel() / q.C), params));
          moments[i].assign(2 * q.C, 0.0);
          group.moments = moments[i].data();
          gx = at::zeros_like(x);
        } else {
          gx = gxs[term.index].defined() ? gxs[term.index] : at::zeros_like(x);
          gxs[term.index] = gx;
        }
        keep.push_back(gx);
        group.gx = gx.mutable_data_ptr<T>();
      }
      groups[at].second.jobs.push_back({Stage<T>(p.depth, p.dense, unit.kernel, unit.dilation, pack, true)});
      Job<T>& job = groups[at].second.jobs.back();
      job.g = grad[i].template const_data_ptr<T>();
      job.zin = z[i][level].template const_data_ptr<T>();
      job.a = Channels<T>(now[i].a.data(), cout);
      job.b = Channels<T>(now[i].b.data(), cout);
      job.c = Channels<T>(now[i].c.data(), cout);
      where.push_back({i, {at, groups[at].second.jobs.size() - 1}});
    }
    by_geometry<T>(groups, [&](auto& same, const Geometry& q) {
      Buffer<T> sum;
      backward<T>(same, q, need_w, sum);
      if (!need_w) return;
      for (auto& [i, at] : where) {
        Group<T>& group = groups[at.first].second;
        if (std::find(same.begin(), same.end(), &group) == same.end()) continue;
        Job<T>& job = group.jobs[at.second];
        const Unit& unit = terms[i].units[level];
        std::vector<Tensor> found;
        job.stage.unpack(sum.data() + job.at, unit.depthwise, parts(unit, params).dense, found);
        for (size_t k = 0; k < found.size(); ++k) gparams[unit.params + k] = found[k];
      }
    });
    if (level)
      for (auto& [i, at] : where) {
        const Unit& unit = terms[i].units[level - 1];
        const Tensor& x = z[i][level - 1];
        Norm norm(&unit, stats[i][level - 1], x.size(1), double(x.numel() / x.size(1)), params);
        const double* m = moments[i].data();
        now[i] = back(norm, 1.0, m, m + x.size(1), false);
        grad[i] = keep[at.first];
        put_affine(unit, now[i], m, 1.0);
      }
  }
  // Tensors that were given, and sources that stand for themselves
  ggiven.assign(given.size(), Tensor());
  for (I i = 0; i < n; ++i) {
    if (terms[i].kind == 0) continue;
    bool itself = terms[i].kind == 2;
    I index = terms[i].index;
    if (!(itself ? need_x[index] : need_given[index])) continue;
    Tensor& target = itself ? gxs[index] : ggiven[index];
    bool first = !target.defined();
    if (first) target = at::empty_like(g);
    T* to = target.mutable_data_ptr<T>();
    Channels<T> a(now[i].a.data(), C), b(now[i].b.data(), C), c(now[i].c.data(), C);
    const T *pa = a.v.data(), *pb = b.v.data(), *pc = c.v.data(), *zp = z[i].back().template const_data_ptr<T>();
    const bool bare = terms[i].units.empty();
    at::parallel_for(0, (pixels + TILE - 1) / TILE, 8, [&](I begin, I end) {
      const I from = begin * TILE * C, m = std::min(pixels, end * TILE) * C - from;
      const T *gi = gp + from, *zi = zp + from;
      T* o = to + from;
      if (bare)
        each<T>(m, C, [&](I e, I k) { V<T> v = load(pa + k) * load(gi + e); store(o + e, first ? v : load(o + e) + v); },
                [&](I e, I k) { T v = pa[k] * gi[e]; o[e] = first ? v : o[e] + v; });
      else
        each<T>(m, C,
                [&](I e, I k) {
                  V<T> v = load(pa + k) * load(gi + e) + load(pb + k) * load(zi + e) + load(pc + k);
                  store(o + e, first ? v : load(o + e) + v);
                },
                [&](I e, I k) { T v = pa[k] * gi[e] + pb[k] * zi[e] + pc[k]; o[e] = first ? v : o[e] + v; });
    });
  }
}

}  // namespace oche
