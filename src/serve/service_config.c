#include "serve/service_config.h"

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

static bool copy_misbehaviour(struct service_config *to, const struct misbehaviour_params *from)
{
    struct misbehaviour_params *copy = from ? malloc(sizeof *copy) : NULL;
    if (copy)
        *copy = *from;
    to->misbehaviour = copy;
    return copy || !from;
}

static void service_config_free(struct service_config *config)
{
    free((char *)config->params.text);
    free((char *)config->params.greeting);
    free((char *)config->params.end_word);
    free((struct misbehaviour_params *)config->misbehaviour);
    admission_rules_clear(&config->rules);
    prefix_list_clear(&config->proxy.from);
    free(config->listener);
    free(config);
}

struct service_config *service_config_new(const struct service_config *from)
{
    struct service_config *config = malloc(sizeof *config);
    if (!config)
        return NULL;
    *config = *from;
    atomic_init(&config->references, 1);
    config->can_splice =
        from->service->is_verbatim && !from->trace && !from->params.end_word && !from->misbehaviour;
    config->misbehaviour = NULL;
    config->params.text = config->params.greeting = config->params.end_word = NULL;
    config->rules.allow = config->rules.deny = config->proxy.from = (struct prefix_list){0};
    config->listener = strdup(from->listener);
    if (!config->listener || !copy_misbehaviour(config, from->misbehaviour) ||
        prefix_list_copy(&config->rules.allow, &from->rules.allow) < 0 ||
        prefix_list_copy(&config->rules.deny, &from->rules.deny) < 0 ||
        prefix_list_copy(&config->proxy.from, &from->proxy.from) < 0 ||
        !copy_text(&config->params.text, from->params.text, from->params.text_length) ||
        !copy_text(&config->params.greeting, from->params.greeting, from->params.greeting_length) ||
        !copy_text(&config->params.end_word, from->params.end_word, from->params.end_word_length)) {
        service_config_free(config);
        return NULL;
    }
    return config;
}

struct service_config *service_config_ref(struct service_config *config)
{
    atomic_fetch_add_explicit(&config->references, 1, memory_order_relaxed);
    return config;
}

void service_config_unref(struct service_config *config)
{
    if (config && atomic_fetch_sub_explicit(&config->references, 1, memory_order_acq_rel) == 1)
        service_config_free(config);
}

bool service_config_misbehaves_alike(const struct service_config *a, const struct service_config *b)
{
    return !a->misbehaviour || !b->misbehaviour ? a->misbehaviour == b->misbehaviour
                                                : misbehaviour_is_equal(a->misbehaviour, b->misbehaviour);
}
