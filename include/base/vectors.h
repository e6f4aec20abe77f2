/* One loop, compiled for the vectors that every CPU of the architecture has and for wider ones, which are
 * taken where the CPU has them: bytes are changed or made twice as fast so, with no line of assembly.
 *
 *     static ALWAYS_INLINE void negate_any(uint8_t *bytes, size_t length) { ...a plain loop... }
 *     WITH_WIDE_VECTORS(negate, (uint8_t *bytes, size_t length), (bytes, length))
 *
 * defines negate(). GCC's target_clones would do the same, but the thread sanitizer cannot start with it. */
#pragma once

#define ALWAYS_INLINE inline __attribute__((always_inline))

#ifdef __x86_64__
#define WITH_WIDE_VECTORS(name, parameters, arguments)                                                       \
    __attribute__((target("avx2"))) static void name##_avx2 parameters                                       \
    {                                                                                                        \
        name##_any arguments;                                                                                \
    }                                                                                                        \
                                                                                                             \
    static void name parameters                                                                              \
    {                                                                                                        \
        if (__builtin_cpu_supports("avx2"))                                                                  \
            name##_avx2 arguments;                                                                           \
        else                                                                                                 \
            name##_any arguments;                                                                            \
    }
#else
#define WITH_WIDE_VECTORS(name, parameters, arguments)                                                       \
    static void name parameters                                                                              \
    {                                                                                                        \
        name##_any arguments;                                                                                \
    }
#endif
