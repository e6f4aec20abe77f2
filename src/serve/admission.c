#include "serve/admission.h"

#include <errno.h>

void admission_rules_clear(struct admission_rules *rules)
{
    prefix_list_clear(&rules->allow);
    prefix_list_clear(&rules->deny);
}

int admission_init(struct admission *admission, unsigned source_prefix_v4, unsigned source_prefix_v6)
{
    *admission =
        (struct admission){.source_prefix_v4 = source_prefix_v4, .source_prefix_v6 = source_prefix_v6};
    int r = peer_network_table_init(&admission->sources);
    if (r == 0)
        pthread_mutex_init(&admission->lock, NULL); /* cannot fail with default attributes on Linux */
    return r;
}

void admission_configure(struct admission *admission, unsigned source_prefix_v4, unsigned source_prefix_v6)
{
    pthread_mutex_lock(&admission->lock);
    admission->source_prefix_v4 = source_prefix_v4;
    admission->source_prefix_v6 = source_prefix_v6;
    pthread_mutex_unlock(&admission->lock);
}

void admission_deinit(struct admission *admission)
{
    peer_network_table_deinit(&admission->sources);
    pthread_mutex_destroy(&admission->lock);
}

static bool is_welcome(const struct admission_rules *rules, const struct address *client)
{
    if (prefix_list_contains(&rules->deny, client))
        return false;
    return rules->allow.count == 0 || prefix_list_contains(&rules->allow, client);
}

/* All hosts of a link share fe80::/64 (RFC 4291, 2.5.6), so that no shorter prefix tells them apart. */
static unsigned source_bits(const struct admission *admission, const struct address *client)
{
    if (client->family == AF_INET)
        return admission->source_prefix_v4;
    return address_is_link_local(client) ? 128 : admission->source_prefix_v6;
}

/* What peer_network_table_take returns. */
static int take(struct admission *admission, const struct admission_rules *rules,
                const struct address *client, uint32_t limit, struct peer_network **source)
{
    pthread_mutex_lock(&admission->lock);
    int r = peer_network_table_take(&admission->sources, client, source_bits(admission, client), rules->scope,
                                    limit, source);
    pthread_mutex_unlock(&admission->lock);
    return r;
}

struct peer_network *admission_count(struct admission *admission, const struct admission_rules *rules,
                                     const struct address *client)
{
    struct peer_network *source = NULL;
    if (client->family != AF_UNIX)
        (void)take(admission, rules, client, 0, &source);
    return source;
}

bool admission_may_proxy(const struct prefix_list *from, const struct address *peer)
{
    return peer->family == AF_UNIX || from->count == 0 || prefix_list_contains(from, peer);
}

enum reason admission_check(struct admission *admission, const struct admission_rules *rules,
                            const struct address *client, struct peer_network **source)
{
    *source = NULL;
    if (client->family == AF_UNIX)
        return REASON_NONE;
    if (!is_welcome(rules, client))
        return REASON_DENIED;
    /* Counted also without a limit, so that a limit that a reload sets knows who is there. */
    int r = take(admission, rules, client, rules->per_source, source);
    return r == 0 ? REASON_NONE : r == -EUSERS ? REASON_PER_SOURCE : REASON_ERROR;
}
