/* Events: errors that a state's `xids` tells of after a set was registered for them.
 *
 * `xids = 3:79 4:31` lists serial and code. A set hands out each serial above those that were
 * there when the card was registered, once and in their order.
 */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#define XID_CRITICAL 0x8ULL
#define NO_INSTANCE 0xffffffffu
#define POLL_SECONDS 0.05

typedef struct {
    unsigned long long serial, data, type;
} Event;

typedef struct {
    int card;
    unsigned long long types, handed_out;
} Registered;

struct event_set {
    Registered cards[MAX_CARDS];
    int count;
};

/* Take the next `SERIAL:DATA` or `SERIAL:DATA:TYPE` off a list. */
static int next_event(char **list, Event *event) {
    char *end;
    event->serial = strtoull(*list, &end, 0);
    if (end == *list || *end != ':') return 0;
    event->data = strtoull(end + 1, &end, 0);
    event->type = *end == ':' ? strtoull(end + 1, &end, 0) : XID_CRITICAL;
    *list = end;
    return 1;
}

static unsigned long long last_serial(int card) {
    unsigned long long last = 0;
    Event event;
    Value xids = card_value(card, KEY_xids);
    if (xids.kind != TEXT) return 0;
    for (char *list = (char *)xids.text; next_event(&list, &event);)
        if (event.serial > last) last = event.serial;
    return last;
}

/* The lowest serial that was not handed out yet. */
static int pending_event(Registered *registered, Event *found) {
    Event event;
    Value xids = card_value(registered->card, KEY_xids);
    int any = 0;
    if (xids.kind != TEXT) return 0;
    for (char *list = (char *)xids.text; next_event(&list, &event);) {
        if (event.serial <= registered->handed_out || !(event.type & registered->types)) continue;
        if (any && event.serial > found->serial) continue;
        *found = event;
        any = 1;
    }
    if (any) registered->handed_out = found->serial;
    return any;
}

EXPORT nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    ENTER(NULL);
    *set = calloc(1, sizeof **set);
    if (*set == NULL) abort();
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    note(-1, "%s", __func__);
    free(set);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types,
                                             nvmlEventSet_t set) {
    unsigned long long supported;
    int place = 0;
    ENTER(device);
    ASK(large(device, KEY_supported_events, &supported));
    if (types & ~supported) return NVML_ERROR_NOT_SUPPORTED;
    while (place < set->count && set->cards[place].card != device->index) place++;
    if (place == set->count) {
        set->count++;
        set->cards[place] = (Registered){device->index, 0, last_serial(device->index)};
    }
    set->cards[place].types |= types;
    return NVML_SUCCESS;
}

static int is_lost(int card) {
    Value whole = card_value(card, KEY_card);
    return is_absent(card) || (whole.kind == RETURN && whole.result == NVML_ERROR_GPU_IS_LOST);
}

/* What the set has to tell now; a time-out where that is nothing. */
static nvmlReturn_t look_at(nvmlEventSet_t set, nvmlEventData_t *data) {
    Event event;
    nvmlReturn_t result = NVML_ERROR_TIMEOUT;
    for (int i = 0; i < set->count; i++) {
        if (pending_event(&set->cards[i], &event)) {
            nvmlDevice_t device = handle_of(set->cards[i].card);
            *data = (nvmlEventData_t){device, event.type, event.data, NO_INSTANCE, NO_INSTANCE};
            return NVML_SUCCESS;
        }
        if (is_lost(set->cards[i].card)) result = NVML_ERROR_GPU_IS_LOST;
    }
    return result;
}

EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data,
                                        unsigned int milliseconds) {
    double end = monotonic_seconds() + milliseconds / 1e3;
    ENTER(NULL);
    ASK(gate(library_value(KEY_event_wait)));
    for (;;) {
        nvmlReturn_t result = look_at(set, data);
        double left = end - monotonic_seconds();
        if (result != NVML_ERROR_TIMEOUT || left <= 0) return result;
        sleep_seconds(is_fixed() || left < POLL_SECONDS ? left : POLL_SECONDS);
        ASK(library_outcome());
    }
}
