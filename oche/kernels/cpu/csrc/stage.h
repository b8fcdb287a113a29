// A stage is the part of a candidate between two BatchNorms: ReLU -> depthwise k x k -> pointwise 1 x 1, or ReLU -> dense k x k, or
// the two shifted 1 x 1 convolutions of a factorised reduction.
#pragma once

#include "channels.h"
#include "products.h"

namespace oche {

template <typename T> struct Stage {
  Conv conv;
  bool depthwise, halves;   // halves: a factorised reduction, in which each tap computes one half of the channels
  Shape in, out;
  std::vector<I> off;  // offsets of the taps in P
  Buffer<T> dw;        // depthwise weights (taps, ws)
  Buffer<T> forth;     // forward: `matrices()` matrices (cin, ldf)
  Buffer<T> back;      // backward: the same, transposed, (cout, ldb)
  I ws;
  I matrices() const { return depthwise ? 1 : conv.taps; }
  I ldf() const { return out.G > 1 ? L<T> : out.Cs; }
  I ldb() const { return in.G > 1 ? L<T> : in.Cs; }
  I weights() const { return (depthwise ? conv.taps * ws : 0) + matrices() * out.C * ldb(); }

  Stage(const Tensor& depth, const std::vector<Tensor>& dense, I kernel, I dilation, bool pack, bool backward)
      : conv(kernel, dilation), depthwise(depth.defined()), halves(kernel == 0) {
    I cin = dense[0].size(1), cout = 0;
    for (auto& d : dense) cout += d.size(0);
    in = Shape(cin, pack, L<T>);
    out = Shape(cout, pack, L<T>);
    ws = in.G > 1 ? L<T> : in.Cs;
    if (depthwise) {
      dw.assign(conv.taps * ws, 0);
      const T* w = depth.const_data_ptr<T>();  // (C, 1, k, k)
      for (I t = 0; t < conv.taps; ++t)
        for (I l = 0; l < (in.G > 1 ? L<T> : in.C); ++l) dw[t * ws + l] = w[l % in.C * conv.taps + t];
    }
    I m = matrices(), row = 0;
    const I ld = backward ? ldb() : ldf(), rows = backward ? out.C : in.C, G = backward ? in.G : out.G;
    auto& to = backward ? back : forth;
    to.assign(m * rows * ld, 0);
    for (auto& part : dense) {
      const T* w = part.const_data_ptr<T>();  // (Cout, Cin, k, k), or (.., 1, 1)
      const I each = halves ? 1 : m, couts = part.size(0), first = halves ? &part - dense.data() : 0;
      for (I t = 0; t < each; ++t) {
        T* mat = to.data() + (first + t) * rows * ld;
        for (I co = 0; co < couts; ++co)
          for (I ci = 0; ci < in.C; ++ci) {
            const T v = w[(co * in.C + ci) * each + t];
            T* at = backward ? mat + (row + co) * ld + ci : mat + ci * ld + row + co;
            for (I g = 0; g < G; ++g) at[g * (backward ? in.C : out.C)] = v;
          }
      }
      row += couts;
    }
  }

  void place(const Frame& f) {  // set the tap offsets
    off.resize(conv.taps);
    for (I t = 0; t < conv.taps; ++t) off[t] = f.tap(conv.dy(t), conv.dx(t));
  }

  // The output channels of matrix t: all, except for halves that end at a vector's end.
  std::pair<I, I> range(I t) const {
    I half = out.C / 2;
    if (!halves || out.G > 1 || half % L<T>) return {0, out.C};
    return t ? std::pair<I, I>{half, out.C} : std::pair<I, I>{0, half};
  }

  // D (n pixels, in.Cs) = depthwise convolution, row y
  void depth_row(T* D, const T* P, const Frame& f, I y, I n) const {
    const T* src = P + y * f.Wq * f.Cs;
    if (in.G > 1) return taps_row(D, src, L<T>, n / in.G, off.data(), dw.data(), ws, conv.taps);
    for (I c = 0; c < in.vectors; ++c)
      taps_row(D + c * L<T>, src + c * L<T>, in.Cs, n, off.data(), dw.data() + c * L<T>, ws, conv.taps);
  }

  // Z (n pixels, out.Cs) = or += A (n pixels, in.Cs) @ matrix t
  template <bool ADD> void mix_row(T* Z, const T* A, I n, I t) const {
    const T* b = forth.data() + t * in.C * ldf();
    if (in.G > 1) return packed_gemm<T, ADD>(Z, A, b, n / in.G, in.C);
    auto [lo, hi] = range(t);
    gemm<T, ADD>(Z + lo, out.Cs, A, in.Cs, b + lo, ldf(), n, in.C, (hi - lo + L<T> - 1) / L<T>);
  }

  // A (n pixels, in.Cs) = or += Z (n pixels, out.Cs) @ transposed matrix t
  template <bool ADD> void unmix_row(T* A, const T* Z, I n, I t) const {
    auto [lo, hi] = range(t);
    const T* b = back.data() + (t * out.C + lo) * ldb();
    if (in.G > 1) return packed_gemm<T, ADD>(A, Z, b, n / in.G, in.C);
    gemm<T, ADD>(A, in.Cs, Z + lo, out.Cs, b, ldb(), n, hi - lo, in.vectors);
  }

  void gather_row(T* to, const T* Z, const T* A, I n, I t) const {  // add the gradient of matrix t
    auto [lo, hi] = range(t);
    T* out_ = to + (t * out.C + lo) * ldb();
    if (in.G > 1) return packed_outer(out_, Z, A, n / in.G, in.C);
    outer(out_, ldb(), Z + lo, out.Cs, A, in.Cs, n, hi - lo, in.vectors);
  }

  // Row y of the output, Z (n pixels, out.Cs); D is scratch.
  void forward_row(T* Z, T* D, const T* P, const Frame& f, I y, I n) const {
    if (depthwise) {
      depth_row(D, P, f, y, n);
      mix_row<false>(Z, D, n, 0);
      return;
    }
    const T* src = P + y * f.Wq * f.Cs;
    mix_row<false>(Z, src + off[0], n, 0);
    for (I t = 1; t < conv.taps; ++t)
      if (halves && range(t).first) mix_row<false>(Z, src + off[t], n, t);
      else mix_row<true>(Z, src + off[t], n, t);
  }

  // Turn sums laid out like dw and back into gradient tensors.
  void unpack(const T* sum, bool has_depth, const std::vector<Tensor>& like, std::vector<Tensor>& to) const {
    I lanes = in.G > 1 ? L<T> : in.C, row = 0, m = matrices();
    if (has_depth) {
      Tensor d = at::zeros({in.C, 1, conv.k, conv.k}, like[0].options());
      T* p = d.mutable_data_ptr<T>();
      for (I t = 0; t < conv.taps; ++t)
        for (I l = 0; l < lanes; ++l) p[l % in.C * conv.taps + t] += sum[t * ws + l];
      to.push_back(d);
      sum += conv.taps * ws;
    }
    for (size_t part = 0; part < like.size(); ++part) {
      Tensor d = at::zeros(like[part].sizes(), like[part].options());
      T* p = d.mutable_data_ptr<T>();
      I each = halves ? 1 : m, rows = d.size(0);
      for (I t = 0; t < each; ++t)
        for (I c = 0; c < rows; ++c)
          for (I l = 0; l < lanes; ++l)
            p[(c * in.C + l % in.C) * each + t] += sum[((halves ? part : t) * out.C + row + c) * ldb() + l];
      row += rows;
      to.push_back(d);
    }
  }
};

}  // namespace oche
