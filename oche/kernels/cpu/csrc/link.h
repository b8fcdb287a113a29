// A stage of a discrete cell, for one image: ReLU -> depthwise k x k -> pointwise 1 x 1, or ReLU -> pointwise, or the two shifted
// pointwise convolutions of a factorised reduction. Any number of channels: maps are dense, buffers are padded to whole vectors.
#pragma once

#include "terms.h"
#include "wide.h"

namespace oche {

constexpr I BLOCK = 96;  // pixels of a product whose rows stay in the nearest caches

// What a stage reads: images (H, W, C), through a normalisation if there is one.
template <typename T> struct Input {
  const T* x;
  I C, H, W;
  bool normed = false;
  Repeated<T> scale, shift;
  Buffer<T> wide_scale, wide_shift;  // the same for each pixel by itself, zeros behind the last channel

  Input(const Tensor& t) : x(t.const_data_ptr<T>()), C(t.size(1)), H(t.size(2)), W(t.size(3)) {}

  void through(const Norm& norm) {
    std::vector<double> a(C), b(C);
    for (I c = 0; c < C; ++c) { a[c] = norm.gamma[c] * norm.r[c]; b[c] = norm.beta[c] - norm.mean[c] * a[c]; }
    normed = true;
    scale = Repeated<T>(a);
    shift = Repeated<T>(b);
    wide_scale.assign(up(C, L<T>), 0);
    wide_shift.assign(up(C, L<T>), 0);
    for (I c = 0; c < C; ++c) { wide_scale[c] = T(a[c]); wide_shift[c] = T(b[c]); }
  }

  // P = the ReLU of image b, padded.
  void fill(T* P, const Frame& f, I b) const {
    const T *from = x + b * H * W * C, *s = wide_scale.data(), *t = wide_shift.data();
    for (I y = 0; y < H; ++y)
      for (I px = 0; px < W; ++px, from += C) {
        T* to = P + f.at(y, px);
        if (normed)
          vectors_of<T>(C, [&](I c, auto m) { store(to + c, positive<T>(load(from + c, m) * load(s + c) + load(t + c))); });
        else
          vectors_of<T>(C, [&](I c, auto m) { store(to + c, positive<T>(load(from + c, m))); });
      }
  }

  // A (n, C) = the ReLU of the pixels at `off` of image b (off < 0: zeros); of the n pixels from `first` on without off.
  void pixels(T* A, I b, I first, I n, const I* off) const {
    const T* image = x + b * H * W * C;
    if (off) {
      for (I p = 0; p < n; ++p)
        if (off[p] < 0) std::fill_n(A + p * C, C, T(0));
        else relu(A + p * C, image + off[p], C);
      return;
    }
    relu(A, image + first * C, n * C);
  }

  void relu(T* to, const T* from, I n) const {
    if (normed) {
      const T *s = scale.v.data(), *t = shift.v.data();
      flat<T>(n, scale.period, [&](I e, I c, auto m) { store(to + e, positive<T>(load(from + e, m) * load(s + c) + load(t + c)), m); });
    } else {
      flat<T>(n, L<T>, [&](I e, I, auto m) { store(to + e, positive<T>(load(from + e, m)), m); });
    }
  }
};

// The gradient of z is f g a + b z + c with f the factor of the image.
template <typename T> struct Gradient {
  const T *g = nullptr, *z = nullptr;
  Repeated<T> a, b, c;
  const double* factors = nullptr;  // of each image; none: 1
  double factor(I image) const { return factors ? factors[image] : 1; }

  void of(T* GZ, I image, I size) const {
    const T f = T(factor(image)), *gi = g + image * size, *zi = z + image * size;
    const T *pa = a.v.data(), *pb = b.v.data(), *pc = c.v.data();
    flat<T>(size, a.period, [&](I e, I k, auto m) {
      store(GZ + e, f * load(pa + k) * load(gi + e, m) + load(pb + k) * load(zi + e, m) + load(pc + k), m);
    });
  }
};

// The buffers of a thread.
template <typename T> struct Work {
  Buffer<T> A, GZ, GD;
  Buffer<uint32_t> pa, pg, pp;  // pairs: of A, of GZ in rows, of GZ below each other
  template <typename N> static N* of(Buffer<N>& b, I n) {
    if (I(b.size()) < n + 2 * L<T>) b.assign(n + 2 * L<T>, N(0));
    return b.data();
  }
};

template <typename T> struct Link {
  Conv conv;
  bool depthwise;
  I stride, C, Co, Cs, Cos, H, W, Ho, Wo;
  std::vector<I> cuts;              // the output channels of each matrix: cuts[t] .. cuts[t + 1]
  bool bf16;                        // whether products are of bfloat16 numbers
  Buffer<T> dw, forth, back;        // depthwise (taps, Cs); forward (C, Cos), backward (Co, Cs)
  Buffer<uint32_t> pairs;           // instead of forth: (Cs / 2, Cos); of back: for each matrix (its channels / 2, Cs)
  std::vector<I> begin;             // of each matrix in `pairs`, backward
  std::vector<std::vector<I>> read; // of each matrix, the pixels that it reads; empty: one after another
  std::vector<I> off;               // of the depthwise taps in P

  Link(const Unit& unit, const Parts& p, const Input<T>& in, bool backward, bool half)
      : conv(unit.kernel, unit.dilation), depthwise(unit.depthwise), stride(unit.stride), C(in.C), H(in.H), W(in.W),
        Ho((H + stride - 1) / stride), Wo((W + stride - 1) / stride), cuts{0}, bf16(half) {
    for (auto& d : p.dense) cuts.push_back(cuts.back() + d.size(0));
    Co = cuts.back();
    Cs = up(C, L<T>);
    Cos = up(Co, L<T>);
    if (depthwise) {
      dw.assign(conv.taps * Cs, 0);
      const T* w = p.depth.const_data_ptr<T>();  // (C, 1, k, k)
      for (I t = 0; t < conv.taps; ++t)
        for (I c = 0; c < C; ++c) dw[t * Cs + c] = w[c * conv.taps + t];
    }
    auto& to = backward ? back : forth;
    to.assign(backward ? Co * Cs : C * Cos, 0);
    for (size_t t = 0; t < p.dense.size(); ++t) {
      const T* w = p.dense[t].const_data_ptr<T>();  // (Co, C, 1, 1)
      for (I co = cuts[t]; co < cuts[t + 1]; ++co, w += C)
        if (backward) std::copy_n(w, C, to.data() + co * Cs);
        else for (I c = 0; c < C; ++c) to[c * Cos + co] = w[c];
    }
    if (bf16) round_weights(backward);
    if (!depthwise && stride > 1)
      for (I t = 0; t < matrices(); ++t) {
        read.emplace_back();
        for (I y = t; y < Ho * stride + t; y += stride)
          for (I px = t; px < Wo * stride + t; px += stride) read[t].push_back(y < H && px < W ? (y * W + px) * C : -1);
      }
  }

  void round_weights(bool backward) {
#if defined(__AVX512BF16__)
    if constexpr (std::is_same_v<T, float>) {
      if (!backward) {
        pairs.assign(Cs / 2 * Cos + L<T>, 0);
        pairs_of_rows(pairs.data(), Cos, forth.data(), Cos, C, Cos);
        return;
      }
      pairs.assign((Co / 2 + matrices()) * Cs + L<T>, 0);
      I at = 0;
      for (I t = 0; t < matrices(); ++t) {
        const I n = cuts[t + 1] - cuts[t];
        begin.push_back(at);
        pairs_of_rows(pairs.data() + at, Cs, back.data() + cuts[t] * Cs, Cs, n, Cs);
        at += (n + 1) / 2 * Cs;
      }
    }
#endif
  }

  // to = A (n, lda) @ matrix t
  void mix(const Target<T>& to, const T* A, I lda, I n, I t, Work<T>& work) const {
    const I m = cuts[t + 1] - cuts[t];
#if defined(__AVX512BF16__)
    if constexpr (std::is_same_v<T, float>)
      if (bf16) {
        uint32_t* a = work.of(work.pa, n * Cs / 2);
        pairs_in_rows(a, Cs / 2, A, lda, n, C);
        return product<Pairs>(to, a, Cs / 2, pairs.data() + cuts[t], Cos, n, (C + 1) / 2, m);
      }
#endif
    product<Single<T>>(to, A, lda, forth.data() + cuts[t], Cos, n, C, m);
  }

  // to = gz (n, Co; the channels of matrix t) @ matrix t, transposed, `cols` columns; w (Co, Cs) += gz^T @ A (n, lda)
  void unmix(const Target<T>& to, I cols, T* w, const T* gz, const T* A, I lda, I n, I t, Work<T>& work) const {
    const I lo = cuts[t], m = cuts[t + 1] - lo;
#if defined(__AVX512BF16__)
    if constexpr (std::is_same_v<T, float>)
      if (bf16) {
        const I wide = up(m, L<T>);
        uint32_t *rows = work.of(work.pg, n * wide / 2), *below = work.of(work.pp, (n + 1) / 2 * wide), *a = work.of(work.pa, (n + 1) / 2 * Cs);
        pairs_in_rows(rows, wide / 2, gz, Co, n, m);
        pairs_of_rows(below, wide, gz, Co, n, m);
        pairs_of_rows(a, Cs, A, lda, n, C);
        gather<Pairs>(w + lo * Cs, Cs, below, wide, a, Cs, (n + 1) / 2, m, C);
        return product<Pairs>(to, rows, wide / 2, pairs.data() + begin[t], Cs, n, (m + 1) / 2, cols);
      }
#endif
    gather<Single<T>>(w + lo * Cs, Cs, gz, Co, A, lda, n, m, C);
    product<Single<T>>(to, gz, Co, back.data() + lo * Cs, Cs, n, m, cols);
  }

  I matrices() const { return cuts.size() - 1; }
  I weights() const { return (depthwise ? conv.taps * Cs : 0) + Co * Cs; }
  const I* pixels(I t, I first) const { return read.empty() ? nullptr : read[t].data() + first; }

  void place(const Frame& f) {
    off.resize(conv.taps);
    for (I t = 0; t < conv.taps; ++t) off[t] = f.tap(conv.dy(t), conv.dx(t));
  }

  I rows() const { return std::max<I>(1, BLOCK / Wo); }  // rows of the output in a block

  void depth_rows(T* D, const T* P, const Frame& f, I y, I count) const {
    for (I i = 0; i < count; ++i)
      for (I c = 0; c < Cs; c += L<T>)
        taps_row(D + i * Wo * Cs + c, P + (y + i) * f.Wq * Cs + c, Cs, Wo, off.data(), dw.data() + c, Cs, conv.taps);
  }

  // z (Ho * Wo, Co) of image b, whose sums and sums of squares are added to s (2, Co). P: the padded input of a depthwise stage.
  void forward(T* z, double* s, const Input<T>& in, I b, const T* P, const Frame& f, Work<T>& work) const {
    const I pixels_ = Ho * Wo, step = depthwise ? rows() * Wo : BLOCK;
    T* A = work.of(work.A, std::max(step, BLOCK) * Cs);
    for (I first = 0; first < pixels_; first += step) {
      const I n = std::min(step, pixels_ - first);
      if (depthwise) depth_rows(A, P, f, first / Wo, n / Wo);
      for (I t = 0; t < matrices(); ++t) {
        if (!depthwise) in.pixels(A, b, first, n, pixels(t, first));
        Target<T> to{z + first * Co + cuts[t], Co};
        mix(to, A, depthwise ? Cs : C, n, t, work);
      }
      column_sums(s, s + Co, z + first * Co, z + first * Co, n, Co);
    }
  }

  // Add the gradient of image b to gx (H * W, C), and those of the weights to w (depthwise (taps, Cs), then (Co, Cs)).
  void backward(T* gx, T* w, const Gradient<T>& of, const Input<T>& in, I b, const T* P, const Frame& f, Work<T>& work) const {
    T* GZ = work.of(work.GZ, Ho * Wo * Co);
    of.of(GZ, b, Ho * Wo * Co);
    if (depthwise) return through_depthwise(gx, w, GZ, P, f, work);
    T* A = work.of(work.A, BLOCK * Cs);
    for (I first = 0; first < Ho * Wo; first += BLOCK) {
      const I n = std::min(BLOCK, Ho * Wo - first);
      for (I t = 0; t < matrices(); ++t) {
        in.pixels(A, b, first, n, pixels(t, first));
        Target<T> to{read.empty() ? gx + first * C : gx, C, pixels(t, first), A, C};
        unmix(to, C, w, GZ + first * Co + cuts[t], A, C, n, t, work);
      }
    }
  }

  void through_depthwise(T* gx, T* w, const T* GZ, const T* P, const Frame& f, Work<T>& work) const {
    // GD: the gradient of the depthwise output, with a margin as wide as the taps reach.
    I top = 0, left = 0;
    for (I t = 0; t < conv.taps; ++t) {
      top = std::max(top, (f.m + conv.dy(t)) / f.s);
      left = std::max(left, (f.m + conv.dx(t)) / f.s);
    }
    const I Wd = f.Wq + left, size = (f.Hq + top) * Wd * Cs;
    T *GD = work.of(work.GD, size), *A = work.of(work.A, rows() * Wo * Cs), *of_mix = w + conv.taps * Cs;
    T* inner = GD + (top * Wd + left) * Cs;
    std::fill(GD, inner, T(0));  // the margin: before the first row, and behind each
    for (I y = 0; y < Ho; ++y)
      std::fill(inner + (y * Wd + Wo) * Cs, y + 1 < Ho ? inner + (y + 1) * Wd * Cs : GD + size + L<T>, T(0));
    std::vector<I> at(rows() * Wo);
    for (size_t p = 0; p < at.size(); ++p) at[p] = (p / Wo * Wd + p % Wo) * Cs;
    for (I y = 0; y < Ho; y += rows()) {
      const I count = std::min(rows(), Ho - y), n = count * Wo;
      depth_rows(A, P, f, y, count);
      unmix(Target<T>{inner + y * Wd * Cs, 0, at.data()}, Cs, of_mix, GZ + y * Wo * Co, A, Cs, n, 0, work);
    }
    for (I c = 0; c < Cs; c += L<T>)
      tapgrad(w + c, Cs, P + c, f.Wq * Cs, inner + c, Wd * Cs, Cs, Ho, Wo, off.data(), conv.taps);
    for (I phase = 0; phase < f.s * f.s; ++phase) to_input(gx, GD, P, f, phase / f.s, phase % f.s, top, left, Wd);
  }

  // Add the gradient of the pixels of one phase, through the ReLU.
  void to_input(T* gx, const T* GD, const T* P, const Frame& f, I qy, I qx, I top, I left, I Wd) const {
    std::vector<I> from;
    Buffer<T> w;
    for (I t = 0; t < conv.taps; ++t) {
      const I ay = f.m + conv.dy(t), ax = f.m + conv.dx(t);
      if (ay % f.s != qy || ax % f.s != qx) continue;
      from.push_back(-(ay / f.s * Wd + ax / f.s) * Cs);
      w.insert(w.end(), dw.begin() + t * Cs, dw.begin() + (t + 1) * Cs);
    }
    if (from.empty()) return;
    const I first = ((qx - f.m) % f.s + f.s) % f.s, n = (W - first + f.s - 1) / f.s, ix = (first + f.m) / f.s;
    for (I y = ((qy - f.m) % f.s + f.s) % f.s; y < H; y += f.s) {
      const T *src = GD + (((y + f.m) / f.s + top) * Wd + ix + left) * Cs, *was = P + f.at(y, first);
      T* to = gx + (y * W + first) * C;
      vectors_of<T>(C, [&](I c, auto m) {
        I i = 0;
        for (; i + 8 <= n; i += 8) back_block<8>(to + i * f.s * C + c, f.s * C, was + i * Cs + c, src + i * Cs + c, from, w.data() + c, m);
        for (; i + 4 <= n; i += 4) back_block<4>(to + i * f.s * C + c, f.s * C, was + i * Cs + c, src + i * Cs + c, from, w.data() + c, m);
        for (; i < n; ++i) back_block<1>(to + i * f.s * C + c, f.s * C, was + i * Cs + c, src + i * Cs + c, from, w.data() + c, m);
      });
    }
  }

  template <int N, typename M>
  inline void back_block(T* to, I step, const T* was, const T* src, const std::vector<I>& from, const T* w, M m) const {
    V<T> acc[N];
    for (int j = 0; j < N; ++j) acc[j] = V<T>{};
    for (size_t t = 0; t < from.size(); ++t) {
      const V<T> wv = load(w + t * Cs);
      const T* s = src + from[t];
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[j] += load(s + j * Cs) * wv;
    }
    for (int j = 0; j < N; ++j)
      store(to + j * step, load(to + j * step, m) + (load(was + j * Cs) > 0 ? acc[j] : V<T>{}), m);
  }

  // Turn the sums of `backward` into gradients like the parameters.
  void unpack(const T* sum, const Tensor& depth, const std::vector<Tensor>& dense, std::vector<Tensor>& to) const {
    if (depthwise) {
      Tensor d = at::empty(depth.sizes(), depth.options(), at::MemoryFormat::Contiguous);
      T* p = d.mutable_data_ptr<T>();
      for (I t = 0; t < conv.taps; ++t)
        for (I c = 0; c < C; ++c) p[c * conv.taps + t] = sum[t * Cs + c];
      to.push_back(d);
      sum += conv.taps * Cs;
    }
    for (auto& part : dense) {
      Tensor d = at::empty(part.sizes(), part.options(), at::MemoryFormat::Contiguous);
      T* p = d.mutable_data_ptr<T>();
      for (I co = 0; co < part.size(0); ++co, sum += Cs) std::copy_n(sum, C, p + co * C);
      to.push_back(d);
    }
  }
};

}  // namespace oche
