// The operators of the native form, registered with torch and compiled on first use (see build.py). All tensors are channels_last:
// the channels of a pixel are adjacent, and pixels follow row by row.
#include <torch/library.h>

#include "node_backward.h"
#include "pools.h"

namespace oche {

std::tuple<Tensor, std::vector<Tensor>> node_forward(at::TensorList xs, at::TensorList given, const Tensor& w, at::TensorList params,
    at::TensorList buffers, at::TensorList given_stats, at::IntArrayRef code, at::ArrayRef<double> numbers) {
  std::vector<Tensor> saved, x, y;
  for (auto& t : xs) x.push_back(last(t));
  for (auto& t : given) y.push_back(last(t));
  Tensor out;
  AT_DISPATCH_FLOATING_TYPES((x.empty() ? y[0] : x[0]).scalar_type(), "node_forward", [&] {
    out = node_forward_<scalar_t>(x, y, w, params, buffers, given_stats, parse(code, numbers), saved);
  });
  return {out, saved};
}

std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>> node_backward(const Tensor& grad, at::TensorList xs,
    at::TensorList given, const Tensor& w, at::TensorList params, at::IntArrayRef code, at::ArrayRef<double> numbers,
    at::TensorList saved, at::IntArrayRef need_x, at::IntArrayRef need_given, bool need_w) {
  Tensor g = last(grad), gw;
  std::vector<Tensor> x, y, gxs, ggiven, gparams;
  for (auto& t : xs) x.push_back(last(t));
  for (auto& t : given) y.push_back(last(t));
  const std::vector<Term> terms = parse(code, numbers);
  AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "node_backward", [&] {
    NodeBackward<scalar_t> node{g, x, y, params, terms, need_x, need_given, need_w, {}, {}, {}, {}};
    node.run(w, saved);
    gw = node.gw;
    gxs = node.gxs;
    ggiven = node.ggiven;
    gparams = node.gparams;
  });
  for (auto* list : {&gxs, &ggiven, &gparams})
    for (auto& t : *list) if (!t.defined()) t = at::empty({0}, g.options());
  return {gw, gxs, ggiven, gparams};
}

}  // namespace oche

TORCH_LIBRARY(oche_native, m) {
  m.def("node_forward(Tensor[] xs, Tensor[] given, Tensor w, Tensor[] params, Tensor[] buffers, Tensor[] given_stats, int[] code,"
        " float[] numbers) -> (Tensor, Tensor[])");
  m.def("node_backward(Tensor g, Tensor[] xs, Tensor[] given, Tensor w, Tensor[] params, int[] code, float[] numbers,"
        " Tensor[] saved, int[] need_x, int[] need_given, bool need_w) -> (Tensor, Tensor[], Tensor[], Tensor[])");
  m.def("pools_forward(Tensor x, int stride, bool want_max, bool want_mean) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("pools_backward(Tensor? of_max, Tensor which, Tensor? of_mean, int b, int c, int h, int w, int stride) -> Tensor");
}

// Composite, because torch cannot infer the device from lists that may be empty.
TORCH_LIBRARY_IMPL(oche_native, CompositeExplicitAutograd, m) {
  m.impl("node_forward", oche::node_forward);
  m.impl("node_backward", oche::node_backward);
  m.impl("pools_forward", oche::pools_forward);
  m.impl("pools_backward", oche::pools_backward);
}
