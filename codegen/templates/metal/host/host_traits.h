// Types of types, and arrays of a fixed length.
#pragma once
#pragma GCC system_header
#include "host_types.h"

namespace metal {

template <class A, class B> struct is_same { static constexpr bool value = host_same<A, B>::value; };
template <class A, class B> constexpr bool is_same_v = host_same<A, B>::value;
template <class T> struct is_floating_point { static constexpr bool value = host_floating<T>::value; };
template <class T> constexpr bool is_floating_point_v = host_floating<T>::value;
template <class T> struct is_integral { static constexpr bool value = host_integer<T>::value; };
template <class T> constexpr bool is_integral_v = host_integer<T>::value;
template <bool C, class T = void> using enable_if_t = host_if_t<C, T>;
template <bool C, class A, class B> struct conditional { typedef A type; };
template <class A, class B> struct conditional<false, A, B> { typedef B type; };
template <bool C, class A, class B> using conditional_t = typename conditional<C, A, B>::type;

template <class T, size_t N> struct array {
    T of[N];
    constexpr size_t size() const { return N; }
    T &operator[](size_t i) { return of[i]; }
    const T &operator[](size_t i) const { return of[i]; }
};

}  // namespace metal
