/* A growing array of messages that cannot lose the fact that there is one: when memory is short, a message
 * that needs none takes the place of the one that could not be made. */
#include "daemon/problems.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out_of_memory[] = "tcpechod: out of memory while the settings were read";

/* What stands for the whole array when not even that could be had. */
static struct problem last_resort[] = {{.line = 0, .message = out_of_memory}};

#define FIRST_ROOM 16

/* Room for one more, or false. The array is full when its count is a power of two from FIRST_ROOM on, and
 * doubles. */
static bool make_room(struct problems *problems)
{
    size_t count = problems->count, room = count ? 2 * count : FIRST_ROOM;
    struct problem *items;

    if (problems->items == last_resort)
        return false;
    if (count > 0 && (count < FIRST_ROOM || (count & (count - 1)) != 0))
        return true;
    items = reallocarray(problems->items, room, sizeof *items);
    if (items) {
        problems->items = items;
        return true;
    }
    if (problems->count == 0) {
        problems->items = last_resort;
        problems->count = 1;
    } else {
        struct problem *last = &problems->items[problems->count - 1];

        if (last->message != out_of_memory)
            free(last->message);
        last->message = out_of_memory;
        last->line = 0;
    }
    return false;
}

/* "FILE:LINE: " in front of the message, or NULL when memory is short. */
static char *compose(const char *file, int line, const char *message)
{
    char *text = NULL;
    int length;

    if (!file)
        length = asprintf(&text, "tcpechod: %s", message);
    else if (line > 0)
        length = asprintf(&text, "%s:%d: %s", file, line, message);
    else
        length = asprintf(&text, "%s: %s", file, message);
    return length < 0 ? NULL : text;
}

void problems_vadd(struct problems *problems, const char *file, int line, const char *format,
                   va_list arguments)
{
    CLEANUP(free_pointer) char *message = NULL;
    struct problem *problem;

    if (!make_room(problems))
        return;
    problem = &problems->items[problems->count];
    *problem = (struct problem){.line = line, .order = problems->count};
    if (vasprintf(&message, format, arguments) < 0)
        message = NULL; /* asprintf(3) leaves it undefined */
    else
        problem->message = compose(file, line, message);
    if (!problem->message) {
        problem->message = out_of_memory;
        problem->line = 0;
    }
    problems->count++;
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

void problems_clear(struct problems *problems)
{
    if (problems->items != last_resort) {
        for (size_t i = 0; i < problems->count; i++) {
            if (problems->items[i].message != out_of_memory)
                free(problems->items[i].message);
        }
        free(problems->items);
    }
    *problems = (struct problems){0};
}
