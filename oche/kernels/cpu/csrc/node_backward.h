// The backward of a node. See node.py for the formulas.
#pragma once

#include "node_forward.h"

namespace oche {

// The backward of a normalisation: the sums of g ẑ per channel, and (a, b, c) such that the gradient of z is a g + b z + c.
struct Back { std::vector<double> ghat, a, b, c; };

// sg, sgz: sums per channel of g and of g z, with g the gradient of the normalised z; w: the weight in front; bare: no BatchNorm.
inline Back back(const Norm& norm, double w, const double* sg, const double* sgz, bool bare) {
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

// Return v * by as a tensor (C,) of `like`'s dtype.
inline Tensor channels_of(const std::vector<double>& v, double by, const Tensor& like) {
  Tensor t = at::empty({(I)v.size()}, at::kDouble);
  for (size_t c = 0; c < v.size(); ++c) t.mutable_data_ptr<double>()[c] = v[c] * by;
  return t.to(like.scalar_type());
}

// The backward of one node. `run` fills gw, gxs, ggiven and gparams; a gradient that is not needed stays undefined.
template <typename T> struct NodeBackward {
  const Tensor& g;
  at::TensorList xs, given, params;
  const std::vector<Term>& terms;
  at::IntArrayRef need_x, need_given;
  bool need_w;
  Tensor gw;
  std::vector<Tensor> gxs, ggiven, gparams;

  const I C = g.size(1), pixels = g.numel() / C, n = terms.size();
  const T* gp = g.const_data_ptr<T>();
  size_t levels = 1;
  std::vector<std::vector<Tensor>> z{size_t(n)};             // of each stage of each term
  std::vector<std::vector<const double*>> stats{size_t(n)};  // of each z
  // For each term: the backward of the normalisation reached so far, and the gradient of its output.
  std::vector<Back> now{size_t(n)};
  std::vector<Tensor> grad = std::vector<Tensor>(n, g);
  std::vector<std::vector<double>> moments{size_t(n)};

  void run(const Tensor& w, at::TensorList saved) {
    read_saved(saved);
    gparams.assign(params.size(), Tensor());
    gxs.assign(xs.size(), Tensor());
    ggiven.assign(given.size(), Tensor());
    through_sum(w);
    for (size_t level = levels; level-- > 0;) through_stages(level);
    through_tensors();
  }

  const T* last_z(I i) const { return z[i].back().template const_data_ptr<T>(); }

  // Find every z and its statistics among the saved tensors.
  void read_saved(at::TensorList saved) {
    const double* sp = saved.back().const_data_ptr<double>();
    size_t next = 0;
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
  }

  // Return (n + 1, C): Σ g z_i for every candidate, and Σ g in the last row.
  std::vector<double> sums_of_gradient() const {
    const I threads = at::get_num_threads(), size = (n + 1) * C;
    std::vector<double> partial(threads * size, 0.0), total(size, 0.0);
    at::parallel_for(0, (pixels + TILE - 1) / TILE, 4, [&](I begin, I end) {
      double* mine = partial.data() + at::get_thread_num() * size;
      std::vector<double> ignored(C);
      Buffer<T> t;
      for (I tile = begin; tile < end; ++tile) {
        const I from = tile * TILE, m = std::min(pixels, from + TILE) - from;
        for (I i = 0; i < n; ++i)
          sums(i ? ignored.data() : mine + n * C, mine + i * C, gp + from * C, last_z(i) + from * C, m, C, t);
      }
    });
    for (I k = 0; k < threads; ++k)
      for (I e = 0; e < size; ++e) total[e] += partial[k * size + e];
    return total;
  }

  // Through the weighted sum and the last normalisation of every term: gw, and `now`.
  void through_sum(const Tensor& w) {
    const std::vector<double> total = sums_of_gradient();
    const double* sg = total.data() + n * C;
    Tensor w64 = w.to(at::kDouble).contiguous(), gw64 = at::zeros({n}, at::kDouble);
    const double* weight = w64.const_data_ptr<double>();
    double* gwp = gw64.mutable_data_ptr<double>();
    for (I i = 0; i < n; ++i) {
      auto& units = terms[i].units;
      Norm norm(units.empty() ? nullptr : &units.back(), units.empty() ? nullptr : stats[i].back(), C, pixels, params);
      now[i] = back(norm, weight[i], sg, total.data() + i * C, units.empty());
      for (I c = 0; c < C; ++c) gwp[i] += norm.gamma[c] * now[i].ghat[c] + norm.beta[c] * sg[c];
      if (!units.empty()) put_affine(units.back(), now[i], sg, weight[i]);
    }
    gw = gw64.to(w.scalar_type());
  }

  // Store the gradients of scale and shift of a normalisation, times `by`; s: sums of the gradient per channel.
  void put_affine(const Unit& unit, const Back& b, const double* s, double by) {
    if (!unit.affine || !need_w) return;
    I at = unit.params + unit.convs();
    gparams[at] = channels_of(b.ghat, by, params[at]);
    gparams[at + 1] = channels_of(std::vector<double>(s, s + b.ghat.size()), by, params[at]);
  }

  // The job of a term at one level.
  struct Where { I term; size_t group, job; };

  // Through the stages of one level, and the normalisation before each.
  void through_stages(size_t level) {
    Groups<T> groups;
    std::vector<Where> where;
    std::vector<Tensor> gx;  // of each group
    for (I i = 0; i < n; ++i) {
      if (terms[i].kind != 0 || terms[i].units.size() <= level) continue;
      if (!level && !need_w && !need_x[terms[i].index]) continue;
      add_job(i, level, groups, where, gx);
    }
    by_geometry<T>(groups.all, [&](auto& same, const Geometry& q) {
      Buffer<T> sum;
      backward<T>(same, q, need_w, sum);
      if (need_w) put_weights(level, groups, where, same, sum);
    });
    if (!level) return;
    for (auto& at : where) {
      const I i = at.term;
      const Unit& unit = terms[i].units[level - 1];
      const Tensor& x = z[i][level - 1];
      Norm norm(&unit, stats[i][level - 1], x.size(1), double(x.numel() / x.size(1)), params);
      const double* m = moments[i].data();
      now[i] = back(norm, 1.0, m, m + x.size(1), false);
      grad[i] = gx[at.group];
      put_affine(unit, now[i], m, 1.0);
    }
  }

  void add_job(I i, size_t level, Groups<T>& groups, std::vector<Where>& where, std::vector<Tensor>& gx) {
    auto& term = terms[i];
    const Unit& unit = term.units[level];
    const Tensor& x = level ? z[i][level - 1] : xs[term.index];
    Parts p = parts(unit, params);
    I cout = 0;
    for (auto& d : p.dense) cout += d.size(0);
    bool pack = cout == x.size(1);
    Geometry q = geometry(x, unit.stride);
    auto [at, first] = groups.place(term.index, pack, q, level > 0);
    Group<T>& group = groups.all[at].second;
    if (first) {
      group.x = x.const_data_ptr<T>();
      if (level) {
        read_through(group, Norm(&term.units[level - 1], stats[i][level - 1], q.C, double(x.numel() / q.C), params));
        moments[i].assign(2 * q.C, 0.0);
        group.moments = moments[i].data();
        gx.push_back(at::zeros_like(x));
      } else {
        if (!gxs[term.index].defined()) gxs[term.index] = at::zeros_like(x);
        gx.push_back(gxs[term.index]);
      }
      group.gx = gx.back().template mutable_data_ptr<T>();
    }
    group.jobs.push_back({Stage<T>(p.depth, p.dense, unit.kernel, unit.dilation, pack, true)});
    Job<T>& job = group.jobs.back();
    job.g = grad[i].template const_data_ptr<T>();
    job.zin = z[i][level].template const_data_ptr<T>();
    job.a = Channels<T>(now[i].a.data(), cout);
    job.b = Channels<T>(now[i].b.data(), cout);
    job.c = Channels<T>(now[i].c.data(), cout);
    where.push_back({i, at, group.jobs.size() - 1});
  }

  // Store the weight gradients of the jobs in the groups `same`, from their sums.
  void put_weights(size_t level, Groups<T>& groups, const std::vector<Where>& where, const std::vector<Group<T>*>& same,
                   const Buffer<T>& sum) {
    for (auto& at : where) {
      Group<T>& group = groups.all[at.group].second;
      if (std::find(same.begin(), same.end(), &group) == same.end()) continue;
      Job<T>& job = group.jobs[at.job];
      const Unit& unit = terms[at.term].units[level];
      std::vector<Tensor> found;
      job.stage.unpack(sum.data() + job.at, unit.depthwise, parts(unit, params).dense, found);
      for (size_t k = 0; k < found.size(); ++k) gparams[unit.params + k] = found[k];
    }
  }

  // To given tensors, and to sources that are candidates themselves.
  void through_tensors() {
    for (I i = 0; i < n; ++i) {
      if (terms[i].kind == 0) continue;
      bool itself = terms[i].kind == 2;
      I index = terms[i].index;
      if (!(itself ? need_x[index] : need_given[index])) continue;
      add_gradient(i, itself ? gxs[index] : ggiven[index]);
    }
  }

  // Add a g + b z + c of term i to `target`, or store it if that is undefined.
  void add_gradient(I i, Tensor& target) {
    const bool first = !target.defined(), bare = terms[i].units.empty();
    if (first) target = at::empty_like(g);
    T* to = target.mutable_data_ptr<T>();
    Channels<T> a(now[i].a.data(), C), b(now[i].b.data(), C), c(now[i].c.data(), C);
    const T *pa = a.v.data(), *pb = b.v.data(), *pc = c.v.data(), *zp = last_z(i);
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
};

}  // namespace oche
