#include "serve/terms.h"

#include <stdlib.h>
#include <string.h>

static bool copy_text(const char **to, const char *from, size_t length)
{
    if (!from)
        return true;
    char *copy = malloc(length + 1);
    if (!copy)
        return false;
    memcpy(copy, from, length);
    copy[length] = '\0';
    *to = copy;
    return true;
}

static void terms_free(struct terms *terms)
{
    free((char *)terms->params.text);
    free((char *)terms->params.greeting);
    free((char *)terms->params.end_word);
    free(terms->listener);
    free(terms);
}

struct terms *terms_new(const struct terms *from)
{
    struct terms *terms = malloc(sizeof *terms);
    if (!terms)
        return NULL;
    *terms = *from;
    atomic_init(&terms->references, 1);
    terms->passes_through = from->service->is_verbatim && !from->trace && !from->params.end_word;
    terms->params.text = terms->params.greeting = terms->params.end_word = NULL;
    terms->listener = strdup(from->listener);
    if (!terms->listener || !copy_text(&terms->params.text, from->params.text, from->params.text_length) ||
        !copy_text(&terms->params.greeting, from->params.greeting, from->params.greeting_length) ||
        !copy_text(&terms->params.end_word, from->params.end_word, from->params.end_word_length)) {
        terms_free(terms);
        return NULL;
    }
    return terms;
}

struct terms *terms_ref(struct terms *terms)
{
    atomic_fetch_add_explicit(&terms->references, 1, memory_order_relaxed);
    return terms;
}

void terms_unref(struct terms *terms)
{
    if (terms && atomic_fetch_sub_explicit(&terms->references, 1, memory_order_acq_rel) == 1)
        terms_free(terms);
}
