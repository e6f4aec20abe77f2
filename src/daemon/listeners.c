#include "daemon/listeners.h"

#include "base/clock.h"
#include "daemon/daemon_log.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* What becomes of one row of `listeners`. */
struct plan {
    struct listener *listener; /* NULL: left out, since the host has no IPv6 */
    bool is_new;
    struct service_config *config;
};

static struct listen_address listen_address_of(const struct listener_settings *row)
{
    return (struct listen_address){
        .any = row->any, .at = row->at, .path = row->path, .port = row->port, .mode = row->mode};
}

/* 0: never. */
static unsigned user_timeout_msec(uint64_t usec)
{
    uint64_t msec = usec / USEC_PER_MSEC;
    return usec == USEC_NEVER ? 0 : msec < INT_MAX ? (unsigned)msec : INT_MAX;
}

static struct socket_settings socket_settings_of(const struct settings *settings)
{
    return (struct socket_settings){
        .backlog = settings->backlog,
        .keepalive_sec = settings->tcp_keepalive,
        .user_timeout_msec = user_timeout_msec(settings->write_timeout),
        .unsent_limit = settings->unsent_limit,
    };
}

static size_t length_of(const char *text)
{
    return text ? strlen(text) : 0;
}

/* A seed that nobody has set stays over reloads and restarts. */
static unsigned draw_seed(const struct listener *listener)
{
    const struct service_config *config = listener->config;
    unsigned seed = 0;
    if (config && config->misbehaviour && config->misbehaviour->is_drawn)
        return config->misbehaviour->seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = (unsigned)clock_monotonic_usec();
    return seed % INT32_MAX + 1; /* as the settings can have it */
}

static struct service_config *make_config(const struct settings *settings,
                                          const struct listener_settings *row, struct listener *listener)
{
    struct misbehaviour_params misbehaviour = row->misbehaviour;
    if (misbehaviour.seed == 0) {
        misbehaviour.seed = draw_seed(listener);
        misbehaviour.is_drawn = true;
    }
    const struct service_config config = {
        .service = row->service,
        .params =
            {
                .text = row->text,
                .text_length = length_of(row->text),
                .greeting = row->greeting,
                .greeting_length = length_of(row->greeting),
                .end_word = row->end_word,
                .end_word_length = length_of(row->end_word),
            },
        .rules =
            {
                .allow = row->allow,
                .deny = row->deny,
                .per_source = row->max_connections_per_source,
                .scope = row->own_max_connections_per_source ? listener->id : 0,
            },
        .proxy =
            {
                .protocol = row->proxy_protocol,
                .timeout_usec = row->proxy_timeout,
                .from = row->proxy_from,
            },
        .misbehaviour = misbehaviour_is_any(&misbehaviour) ? &misbehaviour : NULL,
        .trace = row->trace,
        .idle_timeout_usec = row->idle_timeout,
        .write_timeout_usec = settings->write_timeout,
        .unsent_limit = settings->unsent_limit,
        .listener = listener->name,
    };
    return service_config_new(&config);
}

static bool is_planned(const struct plan *plans, size_t count, const struct listener *listener)
{
    for (size_t i = 0; i < count; i++)
        if (plans[i].listener == listener)
            return true;
    return false;
}

/* One of these listeners that is at the row's address and that no row before it has taken. */
static struct listener *find_at(const struct list *listeners, const struct listen_address *listen_address,
                                const struct plan *plans, size_t planned)
{
    LIST_FOR_EACH(link, listeners)
    {
        struct listener *listener = CONTAINER_OF(link, struct listener, link);
        if (listener_is_at(listener, listen_address) && !is_planned(plans, planned, listener))
            return listener;
    }
    return NULL;
}

/* "*:7" may be bound beside a 127.0.0.1:7 that is about to go, while both are open: see listener_share. Only
 * beside such a one: two listeners on one port, or another process's, stay an error. Returns whether there is
 * one. */
static bool share_leaving(const struct acceptor *acceptor, const struct listen_address *listen_address,
                          const struct plan *plans, size_t count)
{
    bool found = false;
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        struct listener *listener = CONTAINER_OF(link, struct listener, link);
        if (listen_address->path || listener->port == 0 || listener->port != listen_address->port ||
            is_planned(plans, count, listener))
            continue;
        listener_share(listener, true);
        found = true;
    }
    return found;
}

/* A host may have no IPv6 at all, or none on its loopback interface (net.ipv6.conf.lo.disable_ipv6). What
 * listens there is left out, since nobody could connect to it. */
static bool may_be_left_out(const struct listen_address *listen_address, int error)
{
    return !listen_address->path && !listen_address->any && listen_address->at.family == AF_INET6 &&
           address_is_loopback(&listen_address->at) && (error == EAFNOSUPPORT || error == EADDRNOTAVAIL);
}

/* Finds what is there already: open, or `adopted` and not open yet, which the plan takes over. */
static void match_rows(const struct acceptor *acceptor, const struct list *adopted,
                       const struct settings *settings, struct plan *plans)
{
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct listen_address listen_address = listen_address_of(&settings->listeners[i]);
        plans[i].listener = find_at(&acceptor->listeners, &listen_address, plans, i);
        if (plans[i].listener)
            continue;
        plans[i].listener = find_at(adopted, &listen_address, plans, i);
        if (plans[i].listener) {
            list_remove(&plans[i].listener->link);
            plans[i].is_new = true;
        }
    }
}

static int check_served(const struct list *listeners, const struct settings *settings,
                        const struct plan *plans, struct problems *problems)
{
    int result = 0;
    LIST_FOR_EACH(link, listeners)
    {
        const struct listener *listener = CONTAINER_OF(link, struct listener, link);
        if (!listener->passed_as || is_planned(plans, settings->listener_count, listener))
            continue;
        daemon_log_not_served(problems, listener, settings);
        result = -EADDRNOTAVAIL;
    }
    return result;
}

/* Returns 0, a negative errno, or a positive one when it is why the row is left out. */
static int plan_row(struct acceptor *acceptor, const struct settings *settings, size_t index,
                    struct plan *plans)
{
    const struct listener_settings *row = &settings->listeners[index];
    struct plan *plan = &plans[index];
    const struct listen_address listen_address = listen_address_of(row);
    const struct socket_settings socket_settings = socket_settings_of(settings);
    if (plan->is_new) {
        int r = listener_configure(plan->listener, row->mode, &socket_settings);
        if (r < 0)
            return r;
    } else if (!plan->listener) {
        bool shares = share_leaving(acceptor, &listen_address, plans, settings->listener_count);
        int r = listener_open(&listen_address, &socket_settings, shares, &plan->listener);
        if (r < 0 && may_be_left_out(&listen_address, -r))
            return -r;
        if (r < 0)
            return r;
        plan->is_new = true;
    }
    plan->config = make_config(settings, row, plan->listener);
    return plan->config ? 0 : -ENOMEM;
}

/* Every row that fails is reported, not only the first. */
static int plan_all(struct acceptor *acceptor, const struct list *adopted, const struct settings *settings,
                    struct plan *plans, struct problems *problems)
{
    int left_out = 0; /* why */
    bool no_ipv6 = false;
    size_t opened = 0;
    match_rows(acceptor, adopted, settings, plans);
    int result = check_served(&acceptor->listeners, settings, plans, problems);
    if (result == 0)
        result = check_served(adopted, settings, plans, problems);
    /* A row that overlaps with such a socket would be told that its address is in use. */
    if (result < 0)
        return result;
    for (size_t i = 0; i < settings->listener_count; i++) {
        int r = plan_row(acceptor, settings, i, plans);
        if (r < 0) {
            daemon_log_cannot_listen(problems, &settings->listeners[i], -r);
            result = r;
        }
        if (r > 0)
            left_out = r;
        no_ipv6 = no_ipv6 || r == EAFNOSUPPORT ||
                  (r == 0 && settings->listeners[i].any && plans[i].listener->without_v6);
        opened += r == 0;
    }
    if (result == 0 && opened == 0) {
        daemon_log_cannot_listen(problems, &settings->listeners[0], left_out);
        return -left_out;
    }
    if (result == 0 && (no_ipv6 || left_out > 0))
        daemon_log_no_ipv6(!no_ipv6);
    return result;
}

static void drop_plans(struct plan *plans, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (plans[i].is_new)
            listener_close(plans[i].listener);
        service_config_unref(plans[i].config);
    }
    free(plans);
}

/* Puts the new listeners into the loop: the last step that can fail. */
static int add_new(struct acceptor *acceptor, struct plan *plans, size_t count, struct problems *problems)
{
    for (size_t i = 0; i < count; i++) {
        if (!plans[i].is_new)
            continue;
        listener_set_config(plans[i].listener, plans[i].config);
        plans[i].config = NULL;
        int r = acceptor_add(acceptor, plans[i].listener);
        if (r < 0) {
            daemon_log_system_error(problems, "cannot wait for clients", -r);
            while (i-- > 0)
                if (plans[i].is_new) {
                    acceptor_retire(acceptor, plans[i].listener);
                    plans[i].is_new = false;
                }
            acceptor_close_retired(acceptor);
            return r;
        }
    }
    return 0;
}

/* Whoever can connect may say that it is somebody else. */
static bool trusts_everyone(const struct listener *listener, const struct service_config *config)
{
    const struct listen_address *own = &listener->listen_address;
    return config->proxy.protocol && config->proxy.from.count == 0 && !own->path &&
           (own->any || !address_is_loopback(&own->at));
}

static void update_kept(struct plan *plan, const struct settings *settings,
                        const struct listener_settings *row)
{
    const struct socket_settings socket_settings = socket_settings_of(settings);
    size_t told = strlen(plan->listener->lacks);
    int r = listener_configure(plan->listener, row->mode, &socket_settings);
    if (r < 0)
        daemon_log_cannot_configure(plan->listener, -r);
    if (strlen(plan->listener->lacks) > told)
        daemon_log_lacking(plan->listener);
    bool is_news = !service_config_misbehaves_alike(plan->listener->config, plan->config);
    if (trusts_everyone(plan->listener, plan->config) &&
        !trusts_everyone(plan->listener, plan->listener->config))
        daemon_log_trusting(plan->listener);
    listener_set_config(plan->listener, plan->config);
    plan->config = NULL;
    if (is_news && plan->listener->config->misbehaviour)
        daemon_log_misbehaving(plan->listener, row);
}

static void commit(struct acceptor *acceptor, const struct settings *settings, struct plan *plans)
{
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        struct listener *listener = CONTAINER_OF(link, struct listener, link);
        if (!is_planned(plans, settings->listener_count, listener))
            acceptor_retire(acceptor, listener);
    }
    acceptor_close_retired(acceptor);
    for (size_t i = 0; i < settings->listener_count; i++) {
        struct listener *listener = plans[i].listener;
        if (!listener)
            continue;
        /* In the order of the settings. */
        listener->row = (unsigned)i + 1;
        list_remove(&listener->link);
        list_append(&acceptor->listeners, &listener->link);
        if (plans[i].is_new) {
            daemon_log_listening(listener, !settings->listeners[i].path && settings->listeners[i].port == 0 &&
                                               !settings->is_quiet);
            if (listener->lacks[0] != '\0')
                daemon_log_lacking(listener);
            if (listener->config->misbehaviour)
                daemon_log_misbehaving(listener, &settings->listeners[i]);
            if (trusts_everyone(listener, listener->config))
                daemon_log_trusting(listener);
        } else {
            update_kept(&plans[i], settings, &settings->listeners[i]);
        }
        plans[i].is_new = false;
    }
}

static void share_none(struct acceptor *acceptor)
{
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        listener_share(CONTAINER_OF(link, struct listener, link), false);
    }
}

static int apply(struct acceptor *acceptor, const struct list *adopted, const struct settings *settings,
                 struct problems *problems)
{
    struct plan *plans = calloc(settings->listener_count, sizeof *plans);
    if (!plans) {
        daemon_log_system_error(problems, "cannot read the listeners", ENOMEM);
        return -ENOMEM;
    }
    int r = plan_all(acceptor, adopted, settings, plans, problems);
    if (r == 0)
        r = add_new(acceptor, plans, settings->listener_count, problems);
    if (r == 0)
        commit(acceptor, settings, plans);
    share_none(acceptor);
    drop_plans(plans, settings->listener_count);
    return r;
}

int listeners_apply(struct acceptor *acceptor, const struct settings *settings, struct problems *problems)
{
    struct list none;
    list_init(&none);
    return apply(acceptor, &none, settings, problems);
}

int listeners_start(struct acceptor *acceptor, const struct settings *settings, struct passed_sockets *passed,
                    struct problems *problems)
{
    struct list adopted;
    list_init(&adopted);
    int r = passed_sockets_adopt(passed, &adopted, problems);
    if (r == 0)
        r = apply(acceptor, &adopted, settings, problems);
    LIST_FOR_EACH(link, &adopted)
    {
        list_remove(link);
        listener_close(CONTAINER_OF(link, struct listener, link));
    }
    return r;
}
