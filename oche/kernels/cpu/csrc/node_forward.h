// The forward of a node: the sum over candidates of weight * BatchNorm(last z). See node.py for the formulas.
#pragma once

#include "terms.h"

namespace oche {

// The groups of one level. First stages on the same source share a group; later stages have one each.
template <typename T> struct Groups {
  std::vector<std::pair<Geometry, Group<T>>> all;
  std::vector<std::pair<I, bool>> of;  // source and packing of each group

  // Return the index of the group of `source`, and whether it is new.
  std::pair<size_t, bool> place(I source, bool pack, const Geometry& q, bool alone) {
    for (size_t g = 0; g < all.size() && !alone; ++g)
      if (of[g] == std::pair<I, bool>{source, pack} && all[g].first == q) return {g, false};
    all.push_back({q, {}});
    of.push_back({source, pack});
    return {all.size() - 1, true};
  }
};

// Let a group read its input through a normalisation.
template <typename T> void read_through(Group<T>& group, const Norm& norm) {
  const I C = norm.mean.size();
  std::vector<double> a(C), b(C);
  for (I c = 0; c < C; ++c) { a[c] = norm.gamma[c] * norm.r[c]; b[c] = norm.beta[c] - norm.mean[c] * a[c]; }
  group.normed = true;
  group.scale = Channels<T>(a.data(), C);
  group.shift = Channels<T>(b.data(), C);
}

// Call `run` once for all groups of equal geometry.
template <typename T, typename F> void by_geometry(std::vector<std::pair<Geometry, Group<T>>>& all, F run) {
  std::vector<bool> done(all.size(), false);
  for (size_t i = 0; i < all.size(); ++i) {
    if (done[i]) continue;
    std::vector<Group<T>*> same;
    for (size_t j = i; j < all.size(); ++j)
      if (!done[j] && all[j].first == all[i].first) { same.push_back(&all[j].second); done[j] = true; }
    run(same, all[i].first);
  }
}

template <typename T>
Tensor node_forward_(at::TensorList xs, at::TensorList given, const Tensor& w, at::TensorList params, at::TensorList buffers,
                     at::TensorList given_stats, const std::vector<Term>& terms, std::vector<Tensor>& saved) {
  size_t levels = 1;
  for (auto& t : terms) levels = std::max(levels, t.units.size());
  std::vector<std::vector<Tensor>> z(terms.size());      // z of each stage of each term
  std::vector<std::vector<std::vector<double>>> stats(terms.size());
  for (size_t level = 0; level < levels; ++level) {
    Groups<T> made;
    auto& groups = made.all;
    for (size_t i = 0; i < terms.size(); ++i) {
      auto& term = terms[i];
      if (term.kind != 0 || term.units.size() <= level) continue;
      const Unit& unit = term.units[level];
      const Tensor& x = level ? z[i][level - 1] : xs[term.index];
      Parts p = parts(unit, params);
      I cout = 0;
      for (auto& d : p.dense) cout += d.size(0);
      bool pack = cout == x.size(1);
      Geometry q = geometry(x, unit.stride);
      auto [at, first] = made.place(term.index, pack, q, level > 0);
      if (first) {
        Group<T>& g = groups.back().second;
        g.x = x.const_data_ptr<T>();
        if (level) read_through(g, Norm(&term.units[level - 1], stats[i][level - 1].data(), q.C, double(x.numel() / q.C), params));
      }
      I ho = (q.H + q.s - 1) / q.s, wo = (q.W + q.s - 1) / q.s;
      z[i].push_back(fresh(x, q.B, cout, ho, wo));
      stats[i].emplace_back(2 * cout);
      groups[at].second.jobs.push_back({Stage<T>(p.depth, p.dense, unit.kernel, unit.dilation, pack, false)});
      Job<T>& job = groups[at].second.jobs.back();
      job.z = z[i].back().template mutable_data_ptr<T>();
      job.stats = stats[i].back().data();
    }
    by_geometry<T>(groups, [](auto& same, const Geometry& q) { forward<T>(same, q); });
  }
  // The sum. Given tensors come with their statistics.
  std::vector<Tensor> every;
  for (size_t i = 0; i < terms.size(); ++i) {
    every.push_back(terms[i].kind == 0 ? z[i].back() : terms[i].kind == 1 ? given[terms[i].index] : xs[terms[i].index]);
    if (terms[i].kind == 1 && !terms[i].units.empty()) {
      const Tensor& s = given_stats[terms[i].index];
      stats[i].emplace_back(s.const_data_ptr<double>(), s.const_data_ptr<double>() + s.numel());
    }
  }
  const I C = every[0].size(1), pixels = every[0].numel() / C, n = every.size();
  Tensor w64 = w.to(at::kDouble).contiguous();
  const double* weight = w64.const_data_ptr<double>();
  std::vector<Channels<T>> scale;
  std::vector<double> total(C, 0.0);
  std::vector<const T*> zp;
  size_t buffer = 0;
  for (I i = 0; i < n; ++i) {
    auto& units = terms[i].units;
    for (size_t u = 0; u < units.size(); ++u) {
      const Tensor& of = terms[i].kind == 0 ? z[i][u] : every[i];
      move_running(units[u], stats[i][u].data(), of.size(1), double(of.numel() / of.size(1)), buffers, buffer);
    }
    Norm norm(units.empty() ? nullptr : &units.back(), units.empty() ? nullptr : stats[i].back().data(), C, pixels, params);
    std::vector<double> a(C);
    for (I c = 0; c < C; ++c) {
      a[c] = weight[i] * norm.gamma[c] * norm.r[c];
      total[c] += weight[i] * norm.beta[c] - norm.mean[c] * a[c];
    }
    scale.emplace_back(a.data(), C);
    zp.push_back(every[i].const_data_ptr<T>());
  }
  Channels<T> shift(total.data(), C);
  Tensor out = at::empty_like(every[0]);
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, (pixels + TILE - 1) / TILE, 4, [&](I begin, I end) {
    for (I tile = begin; tile < end; ++tile) {
      const I from = tile * TILE * C, m = std::min(pixels, (tile + 1) * TILE) * C - from;
      T* o = to + from;
      const T* b = shift.v.data();
      each<T>(m, C, [&](I e, I c) { store(o + e, load(b + c)); }, [&](I e, I c) { o[e] = b[c]; });
      for (I i = 0; i < n; ++i) {
        const T *v = zp[i] + from, *a = scale[i].v.data();
        each<T>(m, C, [&](I e, I c) { store(o + e, load(o + e) + load(v + e) * load(a + c)); },
                [&](I e, I c) { o[e] += v[e] * a[c]; });
      }
    }
  });
  for (auto& of : z)
    for (auto& t : of) saved.push_back(t);
  I size = 0;
  for (auto& of : stats)
    for (auto& s : of) size += s.size();
  Tensor all = at::empty({size}, at::kDouble);
  double* p = all.mutable_data_ptr<double>();
  for (auto& of : stats)
    for (auto& s : of) p = std::copy(s.begin(), s.end(), p);
  saved.push_back(all);
  return out;
}

}  // namespace oche
