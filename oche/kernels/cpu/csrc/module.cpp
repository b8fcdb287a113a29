// The operators of the native form, registered with torch and compiled on first use (see build.py). All tensors are channels_last:
// the channels of a pixel are adjacent, and pixels follow row by row.
#include <torch/library.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "entries.h"
#include "pools.h"
#include "wide.h"

namespace oche {

Tensors all_last(at::TensorList tensors) {
  Tensors found;
  for (auto& t : tensors) found.push_back(last(t));
  return found;
}

std::tuple<Tensor, Tensors> node_forward(at::TensorList xs, at::TensorList given, const Tensor& w, at::TensorList params,
    at::TensorList buffers, at::TensorList given_stats, at::IntArrayRef code, at::ArrayRef<double> numbers) {
  Tensors x = all_last(xs), y = all_last(given);
  return AT_DISPATCH_FLOATING_TYPES((x.empty() ? y[0] : x[0]).scalar_type(), "node_forward", [&] {
    return node_forward_of<scalar_t>(x, y, w, params, buffers, given_stats, code, numbers);
  });
}

std::tuple<Tensor, Tensors, Tensors, Tensors> node_backward(const Tensor& grad, at::TensorList xs, at::TensorList given, const Tensor& w,
    at::TensorList params, at::IntArrayRef code, at::ArrayRef<double> numbers, at::TensorList saved, at::IntArrayRef need_x,
    at::IntArrayRef need_given, bool need_w) {
  const Tensor g = last(grad);
  const Tensors x = all_last(xs), y = all_last(given);
  auto found = AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "node_backward", [&] {
    return node_backward_of<scalar_t>(g, x, y, w, params, code, numbers, saved, need_x, need_given, need_w);
  });
  for (auto* list : {&std::get<1>(found), &std::get<2>(found), &std::get<3>(found)})
    for (auto& t : *list) if (!t.defined()) t = at::empty({0}, g.options());
  return found;
}

std::tuple<Tensor, Tensors> cell_forward(at::TensorList inputs, const Tensor& factors, at::TensorList params,
    at::TensorList buffers, at::IntArrayRef code, at::ArrayRef<double> numbers, bool bf16) {
  const Tensors x = all_last(inputs);
  return AT_DISPATCH_FLOATING_TYPES(x[0].scalar_type(), "cell_forward", [&] {
    return cell_forward_of<scalar_t>(x, factors, params, buffers, code, numbers, bf16);
  });
}

std::tuple<Tensors, Tensors> cell_backward(const Tensor& grad, at::TensorList inputs, const Tensor& factors, at::TensorList params,
    at::IntArrayRef code, at::ArrayRef<double> numbers, at::TensorList saved, bool bf16) {
  const Tensor g = last(grad);
  const Tensors x = all_last(inputs);
  return AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "cell_backward", [&] {
    return cell_backward_of<scalar_t>(g, x, factors, params, code, numbers, saved, bf16);
  });
}

}  // namespace oche

TORCH_LIBRARY(oche_native, m) {
#if defined(__GLIBC__)  // keep the memory of maps, of which each step needs the same; fresh pages cost a tenth of a step
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
  m.def("node_forward(Tensor[] xs, Tensor[] given, Tensor w, Tensor[] params, Tensor[] buffers, Tensor[] given_stats, int[] code,"
        " float[] numbers) -> (Tensor, Tensor[])");
  m.def("node_backward(Tensor g, Tensor[] xs, Tensor[] given, Tensor w, Tensor[] params, int[] code, float[] numbers,"
        " Tensor[] saved, int[] need_x, int[] need_given, bool need_w) -> (Tensor, Tensor[], Tensor[], Tensor[])");
  m.def("pools_forward(Tensor x, int stride, bool want_max, bool want_mean) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("cell_forward(Tensor[] inputs, Tensor factors, Tensor[] params, Tensor[] buffers, int[] code, float[] numbers,"
        " bool bf16) -> (Tensor, Tensor[])");
  m.def("has_bf16() -> bool");
  m.def("cell_backward(Tensor g, Tensor[] inputs, Tensor factors, Tensor[] params, int[] code, float[] numbers, Tensor[] saved,"
        " bool bf16) -> (Tensor[], Tensor[])");
  m.def("pools_backward(Tensor? of_max, Tensor which, Tensor? of_mean, int b, int c, int h, int w, int stride) -> Tensor");
}

// Composite, because torch cannot infer the device from lists that may be empty.
TORCH_LIBRARY_IMPL(oche_native, CompositeExplicitAutograd, m) {
  m.impl("node_forward", oche::node_forward);
  m.impl("node_backward", oche::node_backward);
  m.impl("pools_forward", oche::pools_forward);
  m.impl("cell_forward", oche::cell_forward);
  m.impl("has_bf16", [] { return oche::HAS_BF16; });
  m.impl("cell_backward", oche::cell_backward);
  m.impl("pools_backward", oche::pools_backward);
}
