// See fcntl.h.
#pragma once
#include <fcntl.h>
