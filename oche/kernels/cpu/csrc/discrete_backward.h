// The backward of a discrete cell. The formulas are those of a node, see node.py, with the factor of an image before its gradient.
#pragma once

#include "discrete.h"
#include "node_backward.h"

namespace oche {

template <typename T> struct CellBackward : CellBase<T> {
  using Base = CellBase<T>;
  using Base::plan; using Base::params; using Base::x; using Base::z; using Base::stats; using Base::which; using Base::B;
  using Base::Base;
  std::vector<Tensor> g;        // of states
  std::vector<Tensor> gparams;
  std::vector<std::vector<Gradient<T>>> grad;  // of z, by piece and stage
  std::vector<Tensor> kept;     // gradients that `grad` points to

  void run(const Tensor& gout, at::TensorList inputs, at::TensorList saved) {
    B = inputs[0].size(0);
    read(inputs, saved);
    gparams.assign(params.size(), Tensor());
    g.resize(plan.states);
    for (size_t i = 0; i < plan.pieces.size(); ++i) grad.emplace_back(plan.pieces[i].units.size());
    for (I j = plan.states; j-- > 0;) state(j, gout);
  }

  void read(at::TensorList inputs, at::TensorList saved) {
    size_t next = 0;
    for (I j = 0; j < plan.states; ++j) x[j] = j < plan.inputs ? inputs[j] : saved[next++];
    const double* s = saved.back().const_data_ptr<double>();
    for (size_t i = 0; i < z.size(); ++i) {
      for (size_t u = 0; u < plan.pieces[i].units.size(); ++u) {
        z[i].push_back(saved[next++]);
        const I C = z[i].back().size(1);
        stats[i].emplace_back(s, s + 2 * C);
        s += 2 * C;
      }
      if (plan.pieces[i].kind == 1) which[i] = saved[next++];
    }
  }

  // The gradient of state j is complete after this, and passes on to the stages of the terms of j behind the first ones.
  void state(I j, const Tensor& gout) {
    const I at = plan.place(j), size = image_of(x[j]), C = x[j].size(1), n = pixels_of(x[j]);
    g[j] = at::empty_like(x[j]);
    T* gp = g[j].template mutable_data_ptr<T>();
    const T* op = gout.const_data_ptr<T>();
    std::vector<size_t> convs;  // terms of j with sums to compute
    for (size_t i : plan.into[j]) if (plan.pieces[i].kind == 0) convs.push_back(i);
    Readers<T> readers{Input<T>(x[j])};
    for (size_t i : plan.from[j]) if (plan.pieces[i].kind == 0) add(readers, i, 0);
    std::vector<double> moments((convs.size() * 2) * C, 0.0);  // of each term: the sums of f g and of f g z
    compute(readers, gp, moments, [&](I b) {
      if (at >= 0) CellForward<T>::copy_columns(gp + b * size, C, op + b * image_of(gout) + at * C, gout.size(1), n, C);
      else std::fill_n(gp + b * size, size, T(0));
    }, [&](I b, double* mine, Work<T>& work) {
      for (size_t i : plan.from[j]) if (plan.pieces[i].kind) through_piece(i, b, gp + b * size, work);
      for (size_t k = 0; k < convs.size(); ++k)
        sums_of(mine + 2 * k * C, gp + b * size, z[convs[k]].back().template const_data_ptr<T>() + b * size, n, C,
                this->factor(plan.pieces[convs[k]], b));
    });
    for (size_t k = 0; k < convs.size(); ++k) {
      const size_t i = convs[k];
      size_t u = plan.pieces[i].units.size() - 1;
      through_norm(i, u, moments.data() + 2 * k * C, gp, this->factors_of(plan.pieces[i]));
      for (; u > 0; --u) through_stage(i, u);
    }
  }

  static void sums_of(double* to, const T* g, const T* z, I n, I C, double factor) {
    for (I p = 0; p < n; p += BLOCK) column_sums(to, to + C, g + p * C, z + p * C, std::min(BLOCK, n - p), C, factor);
  }

  // From the gradient of the normalised z of stage u, and its sums (2, C), to that of z.
  void through_norm(size_t i, size_t u, const double* sums, const T* from, const double* factors) {
    const Unit& unit = plan.pieces[i].units[u];
    const Norm norm = this->norm(i, u);
    const size_t C = norm.mean.size();
    const Back b = back(norm, 1.0, sums, sums + C, false);
    Gradient<T>& to = grad[i][u];
    to.g = from;
    to.z = z[i][u].template const_data_ptr<T>();
    to.a = Repeated<T>(b.a);
    to.b = Repeated<T>(b.b);
    to.c = Repeated<T>(b.c);
    to.factors = factors;
    if (!unit.affine) return;
    const I at = unit.params + unit.convs();
    gparams[at] = channels_of(b.ghat, 1, params[at]);
    gparams[at + 1] = channels_of(std::vector<double>(sums, sums + C), 1, params[at]);
  }

  // Through stage u > 0 of a piece and the normalisation before it.
  void through_stage(size_t i, size_t u) {
    Readers<T> readers(this->input(i, u));
    add(readers, i, u);
    const Tensor& source = z[i][u - 1];
    Tensor gx = at::empty_like(source);
    T* gp = gx.template mutable_data_ptr<T>();
    const I C = source.size(1), n = pixels_of(source), size = n * C;
    std::vector<double> moments(2 * C, 0.0);
    compute(readers, gp, moments, [&](I b) { std::fill_n(gp + b * size, size, T(0)); },
            [&](I b, double* mine, Work<T>&) { sums_of(mine, gp + b * size, readers.in.x + b * size, n, C, 1); });
    kept.push_back(gx);
    through_norm(i, u - 1, moments.data(), gp, nullptr);
  }

  void add(Readers<T>& readers, size_t i, size_t u) {
    readers.links.push_back(this->link(i, u, readers.in, true));
    readers.of.emplace_back(i, u);
  }

  // Add the gradient of a term that has no weights to one image of its source.
  void through_piece(size_t i, I b, T* gx, Work<T>& work) {
    const Piece& p = plan.pieces[i];
    const I size = image_of(g[p.target]);
    const T *from = g[p.target].template const_data_ptr<T>() + b * size, by = T(this->factor(p, b));
    if (p.kind == 3) return flat<T>(size, L<T>, [&](I e, I, auto m) { store(gx + e, load(gx + e, m) + load(from + e, m), m); });
    PoolImage<T>(x[p.source], p.stride)
        .backward(gx, from, p.kind == 1 ? which[i].template const_data_ptr<uint8_t>() + b * size : nullptr, by, work.GD, work.A);
  }

  // Image by image: first(b), the gradients through all stages of `readers` added to gx, then last(b, sums). Then the gradients of
  // the weights.
  template <typename F, typename G> void compute(Readers<T>& readers, T* gx, std::vector<double>& moments, F first, G last) {
    readers.place();
    I weights = 0;
    std::vector<I> at;
    for (auto& l : readers.links) { at.push_back(weights); weights += up(l.weights(), L<T>); }
    const I threads = at::get_num_threads(), size = moments.size();
    const I image = readers.in.C * readers.in.H * readers.in.W;
    Buffer<T> shares(threads * weights, T(0));
    std::vector<double> partial(threads * size, 0.0);
    at::parallel_for(0, B, 1, [&](I begin, I end) {
      const I thread = at::get_thread_num();
      Work<T> work;
      Buffer<T> P[2];
      for (I b = begin; b < end; ++b) {
        first(b);
        readers.each(work, P, b, [&](const Link<T>& l, size_t i, const T* p, const Frame& f) {
          auto [piece, u] = readers.of[i];
          l.backward(gx + b * image, shares.data() + thread * weights + at[i], grad[piece][u], readers.in, b, p, f, work);
        });
        last(b, partial.data() + thread * size, work);
      }
    });
    for (I k = 0; k < threads; ++k)
      for (I e = 0; e < size; ++e) moments[e] += partial[k * size + e];
    for (I k = 1; k < threads; ++k)
      for (I e = 0; e < weights; ++e) shares[e] += shares[k * weights + e];
    for (size_t i = 0; i < readers.links.size(); ++i) {
      auto [piece, u] = readers.of[i];
      const Unit& unit = plan.pieces[piece].units[u];
      const Parts p = parts(unit, params);
      std::vector<Tensor> found;
      readers.links[i].unpack(shares.data() + at[i], p.depth, p.dense, found);
      for (size_t k = 0; k < found.size(); ++k) gparams[unit.params + k] = found[k];
    }
  }
};

}  // namespace oche
