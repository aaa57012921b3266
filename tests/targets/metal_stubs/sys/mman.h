// What mapping a file takes: declarations alone, for the compiler's type check.
#pragma once
#define PROT_READ 1
#define MAP_SHARED 1
#define MAP_FAILED ((void *)-1)
extern "C" {
void *mmap(void *start, unsigned long length, int protection, int flags, int file, long long offset);
int munmap(void *start, unsigned long length);
}
