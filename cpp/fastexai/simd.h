// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>  // brings __GLIBC__

/// What makes a plain loop fast on the machine it runs on. Every macro may be empty: it changes
/// time, never meaning.

/// Compiles a function once per x86-64 level; the dynamic loader picks the best one. GCC on glibc
/// only (needs ifunc).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
#define FASTEXAI_SIMD_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FASTEXAI_SIMD_CLONES
#endif

/// Inlined whatever its size, so that a clone gets it in the clone's own instructions.
#if defined(__GNUC__) || defined(__clang__)
#define FASTEXAI_INLINE inline __attribute__((always_inline))
#else
#define FASTEXAI_INLINE inline
#endif

/// Put before a loop: no iteration reads what another one writes.
#if defined(__clang__)
#define FASTEXAI_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FASTEXAI_INDEPENDENT _Pragma("GCC ivdep")
#else
#define FASTEXAI_INDEPENDENT
#endif

/// Put before a loop of at most 16 turns, a number known at compile time: written out in full.
#if defined(__clang__)
#define FASTEXAI_UNROLLED _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define FASTEXAI_UNROLLED _Pragma("GCC unroll 16")
#else
#define FASTEXAI_UNROLLED
#endif

/// Asks for the cache line at `address`.
#if defined(__GNUC__) || defined(__clang__)
#define FASTEXAI_PREFETCH(address) __builtin_prefetch(address)
#else
#define FASTEXAI_PREFETCH(address) static_cast<void>(address)
#endif
