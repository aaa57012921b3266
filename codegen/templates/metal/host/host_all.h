// All of the vocabulary, and the words for address spaces.
#pragma once
#pragma GCC system_header
#include "host_atomic.h"
#include "host_matrix.h"
#include "host_traits.h"

#define device
#define thread
#define threadgroup
#define kernel
#define constant const
