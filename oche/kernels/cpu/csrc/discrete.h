// A whole discrete cell: its preprocessing, nodes and concatenation, forwards and backwards. See discrete.py.
//
// States are computed in order. State j is the sum of terms; a term is an operation on an earlier state. When an image of a state is
// complete, all first stages that read the state compute on it at once, while it is in a near cache. Backwards the states are
// visited in reverse order, and all that read a state add to its gradient image by image.
#pragma once

#include "link.h"
#include "pool_image.h"

namespace oche {

// A term of a state: kind 0 stages, 1 maximum, 2 average, 3 the source itself; index of the source; row of its factors or -1;
// stride of a pool.
struct Piece { I kind, source, row, stride, target; std::vector<Unit> units; };

// `code`: inputs, number of other states, number of concatenated states, those; then for each other state its number of terms, and
// for each term kind, source, row, stride, number of stages, and for each stage what `parse` reads.
struct Plan {
  I inputs = 0, states = 0;
  std::vector<I> concat;
  std::vector<Piece> pieces;
  std::vector<std::vector<size_t>> into, from;  // pieces by target and by source
  Plan(at::IntArrayRef code, at::ArrayRef<double> numbers) {
    size_t i = 0, n = 0;
    I params = 0;
    inputs = code[i++];
    const I own = code[i++], width = code[i++];
    states = inputs + own;
    for (I k = 0; k < width; ++k) concat.push_back(code[i++]);
    into.resize(states);
    from.resize(states);
    for (I j = inputs; j < states; ++j)
      for (I terms = code[i++]; terms > 0; --terms) {
        Piece piece{code[i], code[i + 1], code[i + 2], code[i + 3], j, {}};
        I units = code[i + 4];
        for (i += 5; units > 0; --units, i += 6, n += 2) {
          piece.units.push_back({code[i], code[i + 1], code[i + 2], code[i + 3] != 0, code[i + 4] != 0, code[i + 5] != 0,
                                 numbers[n], numbers[n + 1], params});
          params += piece.units.back().convs() + (piece.units.back().affine ? 2 : 0);
        }
        into[j].push_back(pieces.size());
        from[piece.source].push_back(pieces.size());
        pieces.push_back(piece);
      }
  }
  I place(I state) const {  // among the concatenated, or -1
    auto at = std::find(concat.begin(), concat.end(), state);
    return at == concat.end() ? -1 : at - concat.begin();
  }
};

inline I pixels_of(const Tensor& t) { return t.size(2) * t.size(3); }
inline I image_of(const Tensor& t) { return t.numel() / t.size(0); }

// What both directions know of a cell.
template <typename T> struct CellBase {
  Plan plan;
  at::TensorList params;
  std::vector<Tensor> x;                        // states
  std::vector<std::vector<Tensor>> z;           // of each stage of each piece
  std::vector<std::vector<std::vector<double>>> stats;
  std::vector<Tensor> which;                    // of each maximum: the tap that won
  std::vector<double> factors;                  // (rows, B)
  I B = 0;
  bool bf16;

  CellBase(at::IntArrayRef code, at::ArrayRef<double> numbers, at::TensorList p, const Tensor& f, bool half)
      : plan(code, numbers), params(p), bf16(half && HAS_BF16 && std::is_same_v<T, float>), x(plan.states), z(plan.pieces.size()), stats(plan.pieces.size()), which(plan.pieces.size()) {
    if (f.numel()) {
      Tensor d = f.to(at::kDouble).contiguous();
      factors.assign(d.const_data_ptr<double>(), d.const_data_ptr<double>() + d.numel());
    }
  }

  const double* factors_of(const Piece& p) const { return factors.empty() || p.row < 0 ? nullptr : factors.data() + p.row * B; }
  double factor(const Piece& p, I b) const { const double* f = factors_of(p); return f ? f[b] : 1; }

  Norm norm(size_t piece, size_t u) const {
    const Tensor& t = z[piece][u];
    return Norm(&plan.pieces[piece].units[u], stats[piece][u].data(), t.size(1), double(t.numel() / t.size(1)), params);
  }

  // What stage u of a piece reads.
  Input<T> input(size_t piece, size_t u) const {
    Input<T> in(u ? z[piece][u - 1] : x[plan.pieces[piece].source]);
    if (u) in.through(norm(piece, u - 1));
    return in;
  }
  Link<T> link(size_t piece, size_t u, const Input<T>& in, bool backward) const {
    const Unit& unit = plan.pieces[piece].units[u];
    return Link<T>(unit, parts(unit, params), in, backward, bf16);
  }
};

// Stages that read the same images, in the layout of P that they share, or none of its own.
template <typename T> struct Readers {
  Input<T> in;
  std::vector<Link<T>> links;
  std::vector<std::pair<size_t, size_t>> of;  // piece and stage of each link
  std::vector<Frame> frames;                  // by stride - 1
  Readers(Input<T> i) : in(std::move(i)) {}

  void place() {
    I margin[2] = {-1, -1};
    for (auto& l : links)
      if (l.depthwise) margin[l.stride - 1] = std::max(margin[l.stride - 1], l.conv.reach());
    for (I s = 1; s <= 2; ++s) frames.emplace_back(in.H, in.W, s, std::max<I>(0, margin[s - 1]), up(in.C, L<T>), 0);
    for (auto& l : links)
      if (l.depthwise) l.place(frames[l.stride - 1]);
  }
  // Call f(link, number, P, frame) for each link, with P of image b filled.
  template <typename F> void each(Work<T>& work, Buffer<T>* P, I b, F f) const {
    for (I s = 1; s <= 2; ++s) {
      bool filled = false;
      for (size_t i = 0; i < links.size(); ++i) {
        if (links[i].stride != s) continue;
        const Frame& frame = frames[s - 1];
        if (links[i].depthwise && !filled) {
          if (P[s - 1].empty()) P[s - 1].assign(frame.size() + 2 * L<T>, T(0));
          in.fill(P[s - 1].data(), frame, b);
          filled = true;
        }
        f(links[i], i, P[s - 1].data(), frame);
      }
    }
  }
};

template <typename T> struct CellForward : CellBase<T> {
  using Base = CellBase<T>;
  using Base::plan; using Base::params; using Base::x; using Base::z; using Base::stats; using Base::which; using Base::B;
  using Base::Base;
  Tensor out;

  void run(at::TensorList inputs, at::TensorList buffers) {
    B = inputs[0].size(0);
    for (I j = 0; j < plan.inputs; ++j) x[j] = inputs[j];
    for (I j = 0; j < plan.states; ++j) state(j);
    size_t at = 0;
    for (size_t i = 0; i < plan.pieces.size(); ++i)
      for (size_t u = 0; u < z[i].size(); ++u)
        move_running(plan.pieces[i].units[u], stats[i][u].data(), z[i][u].size(1), double(z[i][u].numel() / z[i][u].size(1)), buffers, at);
  }

  // Where a state's images come from.
  struct Sum {
    const T* z = nullptr;
    Repeated<T> scale;
    const Piece* piece = nullptr;
    const double* factors = nullptr;
  };

  Tensor shape_of(I j) const {  // an empty state like its first term
    const size_t i = plan.into[j][0];
    const Piece& p = plan.pieces[i];
    if (p.kind == 0) return at::empty_like(z[i].back());
    const Tensor& from = x[p.source];
    const I s = p.kind == 3 ? 1 : p.stride;
    return fresh(from, B, from.size(1), (from.size(2) + s - 1) / s, (from.size(3) + s - 1) / s);
  }

  void state(I j) {
    std::vector<Sum> sums;
    std::vector<std::vector<double>> shifts;  // of each sum
    if (j >= plan.inputs) {
      x[j] = shape_of(j);
      for (size_t i : plan.into[j]) {
        const Piece& p = plan.pieces[i];
        Sum sum;
        sum.piece = &p;
        sum.factors = this->factors_of(p);
        shifts.emplace_back();
        if (p.kind == 0) {
          Norm norm = this->norm(i, p.units.size() - 1);
          const size_t C = norm.mean.size();
          std::vector<double> a(C);
          shifts.back().resize(C);
          for (size_t c = 0; c < C; ++c) { a[c] = norm.gamma[c] * norm.r[c]; shifts.back()[c] = norm.beta[c] - norm.mean[c] * a[c]; }
          sum.scale = Repeated<T>(a);
          sum.z = z[i].back().template const_data_ptr<T>();
        }
        if (p.kind == 1) which[i] = at::empty(x[j].sizes(), x[j].options().dtype(at::kByte), at::MemoryFormat::ChannelsLast);
        sums.push_back(std::move(sum));
      }
    }
    const I at = plan.place(j);
    if (at >= 0 && !out.defined()) out = fresh(x[j], B, x[j].size(1) * plan.concat.size(), x[j].size(2), x[j].size(3));
    Readers<T> readers = first_readers(j);
    compute(readers, [&](I b, Work<T>& work) {
      if (j >= plan.inputs) sum_image(j, b, sums, shifts, work);
      if (at >= 0) copy_columns(out.mutable_data_ptr<T>() + b * image_of(out) + at * x[j].size(1), out.size(1),
                                x[j].template const_data_ptr<T>() + b * image_of(x[j]), x[j].size(1), pixels_of(x[j]), x[j].size(1));
    });
    for (size_t i : plan.from[j])
      for (size_t u = 1; u < plan.pieces[i].units.size(); ++u) {
        Readers<T> next(this->input(i, u));
        add(next, i, u);
        compute(next, [](I, Work<T>&) {});
      }
  }

  Readers<T> first_readers(I j) {
    Readers<T> readers{Input<T>(x[j])};
    for (size_t i : plan.from[j])
      if (plan.pieces[i].kind == 0) add(readers, i, 0);
    return readers;
  }

  void add(Readers<T>& readers, size_t i, size_t u) {
    readers.links.push_back(this->link(i, u, readers.in, false));
    readers.of.emplace_back(i, u);
    auto& l = readers.links.back();
    z[i].push_back(fresh(x[plan.pieces[i].source], B, l.Co, l.Ho, l.Wo));
    stats[i].emplace_back(2 * l.Co, 0.0);
  }

  // Call first(b) and then compute all stages of `readers`, image by image; then their statistics.
  template <typename F> void compute(Readers<T>& readers, F first) {
    readers.place();
    I size = 0;
    std::vector<I> at;
    for (auto& l : readers.links) { at.push_back(size); size += 2 * l.Co; }
    const I threads = at::get_num_threads();
    std::vector<double> partial(threads * size, 0.0);
    std::vector<T*> to;
    for (auto& [i, u] : readers.of) to.push_back(z[i][u].template mutable_data_ptr<T>());
    at::parallel_for(0, B, 1, [&](I begin, I end) {
      Work<T> work;
      Buffer<T> P[2];
      double* mine = partial.data() + at::get_thread_num() * size;
      for (I b = begin; b < end; ++b) {
        first(b, work);
        readers.each(work, P, b, [&](const Link<T>& l, size_t i, const T* p, const Frame& f) {
          l.forward(to[i] + b * l.Ho * l.Wo * l.Co, mine + at[i], readers.in, b, p, f, work);
        });
      }
    });
    for (size_t i = 0; i < readers.links.size(); ++i) {
      auto& l = readers.links[i];
      auto& s = stats[readers.of[i].first][readers.of[i].second];
      const double n = double(B) * l.Ho * l.Wo;
      for (I c = 0; c < 2 * l.Co; ++c) {
        double sum = 0;
        for (I k = 0; k < threads; ++k) sum += partial[k * size + at[i] + c];
        s[c] = sum / n;
      }
      for (I c = 0; c < l.Co; ++c) {
        const double var = s[l.Co + c] - s[c] * s[c];
        s[l.Co + c] = var < 0 ? 0 : var;  // NaN stays NaN
      }
    }
  }

  void sum_image(I j, I b, const std::vector<Sum>& sums, const std::vector<std::vector<double>>& shifts, Work<T>& work) {
    const I C = x[j].size(1), size = image_of(x[j]);
    T* to = x[j].template mutable_data_ptr<T>() + b * size;
    std::vector<double> total(C, 0.0);
    for (size_t i = 0; i < sums.size(); ++i)
      for (size_t c = 0; c < shifts[i].size(); ++c) total[c] += (sums[i].factors ? sums[i].factors[b] : 1) * shifts[i][c];
    const Repeated<T> shift(total);
    const T* sh = shift.v.data();
    bool first = true;
    for (auto& s : sums) {
      const Piece& p = *s.piece;
      const T f = T(s.factors ? s.factors[b] : 1);
      const T* y = s.z + b * size;
      if (p.kind == 0) {
        const T* a = s.scale.v.data();
        if (first) flat<T>(size, shift.period, [&](I e, I c, auto m) { store(to + e, load(sh + c) + load(y + e, m) * (load(a + c) * f), m); });
        else flat<T>(size, shift.period, [&](I e, I c, auto m) { store(to + e, load(to + e, m) + load(y + e, m) * (load(a + c) * f), m); });
      } else {
        const Tensor& from = x[p.source];
        const T* src = from.template const_data_ptr<T>() + b * image_of(from);
        if (first) flat<T>(size, shift.period, [&](I e, I c, auto m) { store(to + e, load(sh + c), m); });
        if (p.kind == 3) {
          flat<T>(size, L<T>, [&](I e, I, auto m) { store(to + e, load(to + e, m) + load(src + e, m), m); });
        } else {
          PoolImage<T> pool(from, p.stride);
          const size_t i = &p - plan.pieces.data();
          if (p.kind == 1) pool.largest(to, which[i].template mutable_data_ptr<uint8_t>() + b * size, src, f, work.GD, work.A);
          else pool.mean(to, src, f, work.GD, work.A);
        }
      }
      first = false;
    }
  }

  // Copy n pixels of C numbers.
  static void copy_columns(T* to, I ldt, const T* from, I ldf, I n, I C) {
    for (I p = 0; p < n; ++p, to += ldt, from += ldf)
      vectors_of<T>(C, [&](I c, auto m) { store(to + c, load(from + c, m), m); });
  }

  std::vector<Tensor> saved() const {
    std::vector<Tensor> all;
    for (I j = plan.inputs; j < plan.states; ++j) all.push_back(x[j]);
    I size = 0;
    for (size_t i = 0; i < z.size(); ++i) {
      for (auto& t : z[i]) all.push_back(t);
      for (auto& s : stats[i]) size += s.size();
      if (which[i].defined()) all.push_back(which[i]);
    }
    Tensor s = at::empty({size}, at::kDouble);
    double* p = s.mutable_data_ptr<double>();
    for (auto& of : stats)
      for (auto& v : of) p = std::copy(v.begin(), v.end(), p);
    all.push_back(s);
    return all;
  }
};

}  // namespace oche
