#include "base/units.h"

#include "base/clock.h"
#include "base/plural.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},           {"k", 1U << 10}, {"K", 1U << 10},   {"KiB", 1U << 10}, {"M", 1U << 20},
    {"MiB", 1U << 20}, {"G", 1U << 30}, {"GiB", 1U << 30}, {NULL, 0},
};

static const struct unit quantity_units[] = {{"", 1},        {"k", 1000},       {"K", 1000},
                                             {"M", 1000000}, {"G", 1000000000}, {NULL, 0}};

static const struct unit duration_units[] = {
    {"", USEC_PER_SEC},
    {"s", USEC_PER_SEC},
    {"us", 1},
    {"ms", USEC_PER_MSEC},
    {"m", 60 * USEC_PER_SEC},
    {"min", 60 * USEC_PER_SEC},
    {"h", 3600 * USEC_PER_SEC},
    {NULL, 0},
};

/* Returns 0 for a unit that is not known. */
static uint64_t unit_factor(const struct unit *units, const char *name)
{
    for (; units->name; units++)
        if (strcmp(units->name, name) == 0)
            return units->factor;
    return 0;
}

/* Digits from *text on, which moves past them. Returns 0, or -EINVAL when there are none or too many. */
static int take_digits(const char **text, uint64_t *out)
{
    uint64_t value = 0;
    if (**text < '0' || **text > '9')
        return -EINVAL;
    for (; **text >= '0' && **text <= '9'; ++*text)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(**text - '0'), &value))
            return -EINVAL;
    *out = value;
    return 0;
}

/* The digits after a decimal point, as a part of `factor`; those too small to count must be zero. */
static int take_fraction(const char **text, uint64_t *numerator, uint64_t *denominator)
{
    *numerator = 0;
    *denominator = 1;
    if (**text != '.')
        return 0;
    size_t digits = strspn(++*text, "0123456789");
    if (digits == 0 || digits > 9)
        return -EINVAL;
    for (size_t i = 0; i < digits; i++)
        *denominator *= 10;
    return take_digits(text, numerator);
}

/* `is_exact`: there are no parts of one. */
static int parse_with_unit(const char *text, const struct unit *units, bool is_exact, uint64_t *out)
{
    uint64_t whole = 0, numerator, denominator, value, part;
    if ((*text != '.' && take_digits(&text, &whole) < 0) ||
        take_fraction(&text, &numerator, &denominator) < 0)
        return -EINVAL;
    uint64_t factor = unit_factor(units, text);
    if (factor == 0 || __builtin_mul_overflow(whole, factor, &value) ||
        __builtin_mul_overflow(numerator, factor, &part) ||
        __builtin_add_overflow(value, part / denominator, &value))
        return -EINVAL;
    if ((value == 0 && (whole != 0 || numerator != 0)) || (is_exact && part % denominator != 0))
        return -EINVAL;
    *out = value;
    return 0;
}

int units_parse_count(const char *text, uint64_t *out)
{
    uint64_t value;
    if (take_digits(&text, &value) < 0 || *text != '\0')
        return -EINVAL;
    *out = value;
    return 0;
}

int units_parse_number(const char *text, uint64_t maximum, uint64_t *out)
{
    uint64_t value;
    if ((text[0] == '0' && text[1] != '\0') || units_parse_count(text, &value) < 0 || value > maximum)
        return -EINVAL;
    *out = value;
    return 0;
}

int units_parse_quantity(const char *text, uint64_t *out)
{
    return parse_with_unit(text, quantity_units, true, out);
}

int units_parse_size(const char *text, uint64_t *out)
{
    return parse_with_unit(text, size_units, false, out);
}

int units_parse_duration(const char *text, uint64_t *out)
{
    return parse_with_unit(text, duration_units, false, out);
}

const char *units_format_duration(uint64_t usec, char out[static DURATION_TEXT_SIZE])
{
    static const struct unit shown[] = {{"h", 3600 * USEC_PER_SEC},
                                        {"min", 60 * USEC_PER_SEC},
                                        {"s", USEC_PER_SEC},
                                        {"ms", USEC_PER_MSEC},
                                        {"us", 1}};
    const struct unit *unit = shown;

    /* Hours and minutes only where nothing is left over. */
    while (unit->factor > 1 && (usec < unit->factor || (unit->factor > USEC_PER_SEC && usec % unit->factor)))
        unit++;
    snprintf(out, DURATION_TEXT_SIZE, "%.6g %s", (double)usec / (double)unit->factor, unit->name);
    return out;
}

const char *units_format_size(uint64_t bytes, char out[static SIZE_TEXT_SIZE])
{
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes / 1024;
    size_t i = 0;
    if (bytes < 1024) {
        snprintf(out, SIZE_TEXT_SIZE, "%" PRIu64 " byte%s", bytes, plural(bytes));
        return out;
    }
    for (; value >= 1024 && i + 1 < sizeof names / sizeof names[0]; i++)
        value /= 1024;
    snprintf(out, SIZE_TEXT_SIZE, "%.4g %s", value, names[i]);
    return out;
}
