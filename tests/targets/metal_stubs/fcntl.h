// What mapping a file takes: declarations alone, for the compiler's type check.
#pragma once
#define O_RDONLY 0
#define SEEK_END 2
extern "C" {
int open(const char *path, int flags, ...);
int close(int file);
long long lseek(int file, long long offset, int from);
}
