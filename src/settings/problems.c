/* When memory is short, a message that needs none takes the place of the one that could not be made. */
#include "settings/problems.h"

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out_of_memory[] = "out of memory";
#define OUT_OF_MEMORY                                                                                        \
    (struct problem)                                                                                         \
    {                                                                                                        \
        .message = out_of_memory, .text = out_of_memory                                                      \
    }

/* What stands for the whole array when not even that could be had. */
static struct problem last_resort[1];

static bool make_room(struct problems *problems)
{
    struct problem *items = NULL;
    if (problems->items != last_resort)
        items = reallocarray(problems->items, problems->count + 1, sizeof *items);
    if (items)
        problems->items = items;
    return items != NULL;
}

static void free_message(struct problem *problem)
{
    if (problem->message != out_of_memory)
        free(problem->message);
}

/* In the place of the last one, or of all. */
static void add_last_resort(struct problems *problems)
{
    if (problems->count == 0)
        *problems = (struct problems){.items = last_resort, .count = 1};
    else
        free_message(&problems->items[problems->count - 1]);
    problems->items[problems->count - 1] = OUT_OF_MEMORY;
}

/* Returns -1 when memory is short. */
static int compose(const char *file, int line, const char *text, char **out)
{
    if (!file)
        return asprintf(out, "%s", text);
    if (line > 0)
        return asprintf(out, "%s:%d: %s", file, line, text);
    return asprintf(out, "%s: %s", file, text);
}

void problems_vadd(struct problems *problems, const char *file, int line, const char *format,
                   va_list arguments)
{
    if (!make_room(problems)) {
        add_last_resort(problems);
        return;
    }
    struct problem *problem = &problems->items[problems->count];
    *problem = OUT_OF_MEMORY;
    char *text, *message;
    int length = vasprintf(&text, format, arguments);
    if (length >= 0) {
        int whole = compose(file, line, text, &message);
        if (whole >= 0)
            *problem = (struct problem){.line = line, .message = message, .text = message + (whole - length)};
        free(text);
    }
    problem->order = problems->count++;
}

void problems_add(struct problems *problems, const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    problems_vadd(problems, file, line, format, arguments);
    va_end(arguments);
}

static int compare(const void *left, const void *right)
{
    const struct problem *a = left, *b = right;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

void problems_sort(struct problems *problems)
{
    if (problems->count > 1)
        qsort(problems->items, problems->count, sizeof *problems->items, compare);
}

const char *problems_first(const struct problems *problems)
{
    return problems->count > 0 ? problems->items[0].message : "";
}

void problems_print(const struct problems *problems, FILE *out)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct problem *problem = &problems->items[i];
        fprintf(out, "%s%s\n", problem->text == problem->message ? "tcpechod: " : "", problem->message);
    }
}

const char *problems_join(const struct problems *problems, char *out, size_t size)
{
    static const char more[] = "and more; the log has them all\n";
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < problems->count; i++) {
        const char *message = problems->items[i].message;
        size_t length = strlen(message) + 1;
        bool is_last = i + 1 == problems->count;
        if (used + length + (is_last ? 1 : sizeof more) > size) {
            snprintf(out + used, size - used, "%s", more);
            break;
        }
        used += (size_t)snprintf(out + used, size - used, "%s\n", message);
    }
    return out;
}

void problems_clear(struct problems *problems)
{
    if (problems->items != last_resort) {
        for (size_t i = 0; i < problems->count; i++)
            free_message(&problems->items[i]);
        free(problems->items);
    }
    *problems = (struct problems){0};
}
