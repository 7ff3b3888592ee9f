/* A stand-in for libnvidia-ml.so.1, driven by a text file.
 *
 * The file named by FARMHAND_NVML_STATE says what each card answers; it is read again when it
 * changes, so that a test can change a card's life while a process has the library open. Its form
 * is told in README.md. Each call is appended to the file named by FARMHAND_NVML_CALLS, if set.
 */
#include "nvml.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_CARDS 64
#define MAX_FIELDS 512
#define MAX_TEXT 128
#define MAX_FANS 4

/* --- what a card can be asked ---------------------------------------------------------------- */

#define TEXT_KEYS(X) X(uuid) X(name) X(serial) X(vbios) X(pci_address)
#define NUMBER_KEYS(X)                                                                             \
    X(card) X(absent) X(delay_ms) X(pci_device_id) X(pci_subsystem_id) X(utilization)              \
    X(memory_utilization) X(clock_graphics) X(clock_sm) X(clock_memory) X(clock_video)             \
    X(clock_max_graphics) X(clock_max_sm) X(clock_max_memory) X(clock_max_video) X(power_usage)    \
    X(power_limit_enforced) X(power_limit_default) X(temperature) X(temperature_v) X(hotspot)      \
    X(memory_total) X(memory_used) X(memory_reserved) X(memory_v2) X(bar1_total) X(memory_bus)     \
    X(cores) X(fans) X(fan_0) X(fan_1) X(fan_2) X(fan_3) X(fan) X(event_reasons)                   \
    X(throttle_reasons) X(pcie_generation) X(pcie_width) X(pcie_generation_max) X(pcie_width_max)  \
    X(pcie_replay) X(ecc_corrected_volatile) X(ecc_corrected_aggregate)                            \
    X(ecc_uncorrected_volatile) X(ecc_uncorrected_aggregate) X(remapped_correctable)               \
    X(remapped_uncorrectable) X(remap_pending) X(remap_failed) X(mig_devices_max)      \
    X(mig_devices) X(energy) X(field_values)

#define AS_ENUM(key) KEY_##key,
#define AS_NAME(key) #key,
enum { TEXT_KEYS(AS_ENUM) KEY_TEXTS, KEY_LAST_TEXT = KEY_TEXTS - 1, NUMBER_KEYS(AS_ENUM) KEY_COUNT };
static const char *const text_names[] = {TEXT_KEYS(AS_NAME)};
static const char *const number_names[] = {NUMBER_KEYS(AS_NAME)};

typedef enum { UNSET, NUMBER, TEXT, RETURN, HANG, CRASH } Kind;

typedef struct {
    Kind kind;
    nvmlReturn_t result;
    double number, per_second, since;
    unsigned long long whole;
    char text[MAX_TEXT];
} Value;

typedef struct {
    Value keys[KEY_COUNT];
    Value fields[MAX_FIELDS];
} Card;

static struct {
    Value driver, init, calls, reload;
    Card cards[MAX_CARDS];
    int count;
} state;

struct handle {
    int index;
};

static struct handle handles[MAX_CARDS];
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct stat seen;
static char seen_path[4096];
static int references;
static double opened_reload;

/* --- reading the state ----------------------------------------------------------------------- */

static void refuse(const char *path, int line, const char *text) {
    fprintf(stderr, "%s:%d: %s, expected a known key and value\n", path, line, text);
    abort();
}

static char *trimmed(char *text) {
    while (*text == ' ' || *text == '\t') text++;
    size_t length = strlen(text);
    while (length && strchr(" \t\r\n", text[length - 1])) text[--length] = '\0';
    return text;
}

static int word_value(const char *text, Value *value) {
    static const struct {
        const char *word;
        Kind kind;
        nvmlReturn_t result;
    } words[] = {
        {"not supported", RETURN, NVML_ERROR_NOT_SUPPORTED},
        {"lost", RETURN, NVML_ERROR_GPU_IS_LOST},
        {"missing", RETURN, NVML_ERROR_FUNCTION_NOT_FOUND},
        {"deprecated", RETURN, NVML_ERROR_DEPRECATED},
        {"hang", HANG, 0},
        {"crash", CRASH, 0},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i].word) == 0) {
            value->kind = words[i].kind;
            value->result = words[i].result;
            return 1;
        }
    }
    if (sscanf(text, "error %d", &value->result) == 1) {
        value->kind = RETURN;
        return 1;
    }
    return 0;
}

/* `123`, `0x1ff`, `-5`, or a counter `1000 +0.5e9/s @12345.678` (monotonic seconds). */
static int number_value(char *text, Value *value) {
    char *rest;
    value->kind = NUMBER;
    value->whole = strtoull(text, &rest, 0);
    value->number = (double)value->whole;
    if (rest == text) return 0;
    rest = trimmed(rest);
    if (*rest == '\0') return 1;
    return sscanf(rest, "+%lf/s @%lf", &value->per_second, &value->since) == 2;
}

static int parse_value(char *text, Value *value, int is_text) {
    memset(value, 0, sizeof *value);
    if (word_value(text, value)) return 1;
    if (!is_text) return number_value(text, value);
    value->kind = TEXT;
    snprintf(value->text, sizeof value->text, "%s", text);
    return 1;
}

static int index_of(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

static int parse_card_pair(Card *card, char *key, char *text) {
    int number, field;
    if (sscanf(key, "field_%d", &field) == 1 && field >= 0 && field < MAX_FIELDS)
        return parse_value(text, &card->fields[field], 0);
    if ((number = index_of(text_names, KEY_TEXTS, key)) >= 0)
        return parse_value(text, &card->keys[number], 1);
    number = index_of(number_names, sizeof number_names / sizeof *number_names, key);
    return number >= 0 && parse_value(text, &card->keys[KEY_TEXTS + number], 0);
}

static int parse_global_pair(char *key, char *text) {
    if (strcmp(key, "driver") == 0) return parse_value(text, &state.driver, 1);
    if (strcmp(key, "init") == 0) return parse_value(text, &state.init, 0);
    if (strcmp(key, "calls") == 0) return parse_value(text, &state.calls, 0);
    if (strcmp(key, "reload") == 0) return parse_value(text, &state.reload, 0);
    return 0;
}

static void parse(const char *path, FILE *file) {
    char line[1024];
    Card *card = NULL;
    memset(&state, 0, sizeof state);
    for (int number = 1; fgets(line, sizeof line, file); number++) {
        char *text = trimmed(line), *equals;
        int index;
        if (*text == '\0' || *text == '#') continue;
        if (sscanf(text, "[card %d]", &index) == 1 && index >= 0 && index < MAX_CARDS) {
            card = &state.cards[index];
            if (index >= state.count) state.count = index + 1;
            continue;
        }
        if ((equals = strchr(text, '=')) == NULL) refuse(path, number, text);
        *equals = '\0';
        char *key = trimmed(text), *value = trimmed(equals + 1);
        if (!(card ? parse_card_pair(card, key, value) : parse_global_pair(key, value)))
            refuse(path, number, key);
    }
}

static int refresh(void) {
    const char *path = getenv("FARMHAND_NVML_STATE");
    struct stat now;
    if (path == NULL || stat(path, &now) != 0) return 0;
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size &&
        memcmp(&now.st_mtim, &seen.st_mtim, sizeof now.st_mtim) == 0 &&
        strcmp(path, seen_path) == 0)
        return 1;
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    parse(path, file);
    fclose(file);
    seen = now;
    snprintf(seen_path, sizeof seen_path, "%s", path);
    return 1;
}

/* --- answering ------------------------------------------------------------------------------- */

static double monotonic_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void note(int card, const char *form, ...) {
    const char *path = getenv("FARMHAND_NVML_CALLS");
    char line[256];
    if (path == NULL) return;
    int length = snprintf(line, sizeof line, "%d ", card);
    va_list arguments;
    va_start(arguments, form);
    length += vsnprintf(line + length, sizeof line - (size_t)length - 1, form, arguments);
    va_end(arguments);
    line[length++] = '\n';
    int out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (out < 0) return;
    if (write(out, line, (size_t)length) < 0) abort();
    close(out);
}

/* Return code of a value; does not come back from `hang`, raises SIGSEGV for `crash`. */
static nvmlReturn_t outcome(const Value *value) {
    switch (value->kind) {
    case UNSET: return NVML_ERROR_NOT_SUPPORTED;
    case RETURN: return value->result;
    case HANG:
        for (;;) pause();
    case CRASH:
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
        abort();
    default: return NVML_SUCCESS;
    }
}

static unsigned long long number_of(const Value *value) {
    if (value->per_second == 0) return value->whole;
    return value->whole +
           (unsigned long long)(value->per_second * (monotonic_seconds() - value->since));
}

static nvmlReturn_t library_outcome(Value *calls) {
    pthread_mutex_lock(&guard);
    int there = refresh(), opened = references > 0;
    int stale = there && state.reload.number != opened_reload;
    *calls = state.calls;
    pthread_mutex_unlock(&guard);
    if (!there) return NVML_ERROR_DRIVER_NOT_LOADED;
    if (!opened || stale) return NVML_ERROR_UNINITIALIZED;
    return calls->kind == UNSET ? NVML_SUCCESS : outcome(calls);
}

/* Everything that precedes an answer about a card: the note, the library's and the card's state. */
static nvmlReturn_t enter(nvmlDevice_t device, const char *function) {
    Value calls, whole, delay, absent;
    note(device ? device->index : -1, "%s", function);
    nvmlReturn_t result = library_outcome(&calls);
    if (result != NVML_SUCCESS || device == NULL) return result;
    pthread_mutex_lock(&guard);
    const Card *card = &state.cards[device->index];
    int there = device->index < state.count;
    whole = card->keys[KEY_card];
    delay = card->keys[KEY_delay_ms];
    absent = card->keys[KEY_absent];
    pthread_mutex_unlock(&guard);
    if (!there || absent.number != 0) return NVML_ERROR_GPU_IS_LOST;
    if (delay.kind == NUMBER) usleep((useconds_t)(delay.number * 1000));
    return whole.kind == UNSET ? NVML_SUCCESS : outcome(&whole);
}

static nvmlReturn_t value_at(nvmlDevice_t device, int key, Value *value) {
    pthread_mutex_lock(&guard);
    *value = state.cards[device->index].keys[key];
    pthread_mutex_unlock(&guard);
    return outcome(value);
}

static nvmlReturn_t large(nvmlDevice_t device, int key, unsigned long long *out) {
    Value value;
    nvmlReturn_t result = value_at(device, key, &value);
    if (result == NVML_SUCCESS) *out = number_of(&value);
    return result;
}

static nvmlReturn_t small(nvmlDevice_t device, int key, unsigned int *out) {
    unsigned long long whole;
    nvmlReturn_t result = large(device, key, &whole);
    if (result == NVML_SUCCESS) *out = (unsigned int)whole;
    return result;
}

static nvmlReturn_t text(nvmlDevice_t device, int key, char *out, unsigned int length) {
    Value value;
    nvmlReturn_t result = value_at(device, key, &value);
    if (result != NVML_SUCCESS) return result;
    if (strlen(value.text) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, value.text);
    return NVML_SUCCESS;
}

#define ENTER(device)                                                                              \
    do {                                                                                           \
        nvmlReturn_t entered = enter(device, __func__);                                            \
        if (entered != NVML_SUCCESS) return entered;                                               \
    } while (0)

#define ASK(expression)                                                                            \
    do {                                                                                           \
        nvmlReturn_t asked = (expression);                                                         \
        if (asked != NVML_SUCCESS) return asked;                                                   \
    } while (0)

/* --- the library ----------------------------------------------------------------------------- */

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    note(-1, "%s", __func__);
    pthread_mutex_lock(&guard);
    int there = refresh();
    Value init = state.init;
    pthread_mutex_unlock(&guard);
    if (!there) return NVML_ERROR_DRIVER_NOT_LOADED;
    if (init.kind != UNSET) ASK(outcome(&init));
    pthread_mutex_lock(&guard);
    for (int i = 0; i < MAX_CARDS; i++) handles[i].index = i;
    opened_reload = state.reload.number;
    references++;
    pthread_mutex_unlock(&guard);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT nvmlReturn_t nvmlShutdown(void) {
    note(-1, "%s", __func__);
    pthread_mutex_lock(&guard);
    int opened = references > 0;
    if (opened) references--;
    pthread_mutex_unlock(&guard);
    return opened ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

EXPORT const char *nvmlErrorString(nvmlReturn_t result) {
    (void)result;
    return "an error of the stand-in";
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned int length) {
    ENTER(NULL);
    pthread_mutex_lock(&guard);
    Value driver = state.driver;
    pthread_mutex_unlock(&guard);
    ASK(outcome(&driver));
    snprintf(out, length, "%s", driver.text);
    return NVML_SUCCESS;
}

/* Section number of the card that the driver enumerates at `place`, or -1. */
static int enumerated(unsigned int place, unsigned int *count) {
    int found = -1;
    *count = 0;
    pthread_mutex_lock(&guard);
    for (int i = 0; i < state.count; i++) {
        if (state.cards[i].keys[KEY_absent].number != 0) continue;
        if ((*count)++ == place) found = i;
    }
    pthread_mutex_unlock(&guard);
    return found;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    ENTER(NULL);
    enumerated(MAX_CARDS, count);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int place, nvmlDevice_t *device) {
    unsigned int count;
    Value calls;
    ASK(library_outcome(&calls));
    int index = enumerated(place, &count);
    if (index < 0) return NVML_ERROR_INVALID_ARGUMENT;
    ENTER(&handles[index]);
    *device = &handles[index];
    return NVML_SUCCESS;
}

/* --- identity -------------------------------------------------------------------------------- */

#define TEXT_CALL(function, key)                                                                   \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, char *out, unsigned int length) {            \
        ENTER(device);                                                                             \
        return text(device, KEY_##key, out, length);                                               \
    }

TEXT_CALL(nvmlDeviceGetUUID, uuid)
TEXT_CALL(nvmlDeviceGetName, name)
TEXT_CALL(nvmlDeviceGetSerial, serial)
TEXT_CALL(nvmlDeviceGetVbiosVersion, vbios)

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info) {
    ENTER(device);
    memset(info, 0, sizeof *info);
    ASK(text(device, KEY_pci_address, info->bus_id, sizeof info->bus_id));
    sscanf(info->bus_id, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    small(device, KEY_pci_device_id, &info->pci_device_id);
    small(device, KEY_pci_subsystem_id, &info->pci_subsystem_id);
    return NVML_SUCCESS;
}

/* --- plain numbers --------------------------------------------------------------------------- */

#define NUMBER_CALL(function, key)                                                                 \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned int *out) {                         \
        ENTER(device);                                                                             \
        return small(device, KEY_##key, out);                                                      \
    }
#define LARGE_CALL(function, key)                                                                  \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned long long *out) {                   \
        ENTER(device);                                                                             \
        return large(device, KEY_##key, out);                                                      \
    }

NUMBER_CALL(nvmlDeviceGetPowerUsage, power_usage)
NUMBER_CALL(nvmlDeviceGetEnforcedPowerLimit, power_limit_enforced)
NUMBER_CALL(nvmlDeviceGetPowerManagementDefaultLimit, power_limit_default)
NUMBER_CALL(nvmlDeviceGetMemoryBusWidth, memory_bus)
NUMBER_CALL(nvmlDeviceGetNumGpuCores, cores)
NUMBER_CALL(nvmlDeviceGetNumFans, fans)
NUMBER_CALL(nvmlDeviceGetFanSpeed, fan)
NUMBER_CALL(nvmlDeviceGetCurrPcieLinkGeneration, pcie_generation)
NUMBER_CALL(nvmlDeviceGetCurrPcieLinkWidth, pcie_width)
NUMBER_CALL(nvmlDeviceGetMaxPcieLinkGeneration, pcie_generation_max)
NUMBER_CALL(nvmlDeviceGetMaxPcieLinkWidth, pcie_width_max)
NUMBER_CALL(nvmlDeviceGetPcieReplayCounter, pcie_replay)
NUMBER_CALL(nvmlDeviceGetMaxMigDeviceCount, mig_devices_max)
LARGE_CALL(nvmlDeviceGetCurrentClocksEventReasons, event_reasons)
LARGE_CALL(nvmlDeviceGetCurrentClocksThrottleReasons, throttle_reasons)
LARGE_CALL(nvmlDeviceGetTotalEnergyConsumption, energy)

EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned int type,
                                           unsigned int *out) {
    ENTER(device);
    if (type > 3) return NVML_ERROR_INVALID_ARGUMENT;
    return small(device, KEY_clock_graphics + (int)type, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, unsigned int type,
                                              unsigned int *out) {
    ENTER(device);
    if (type > 3) return NVML_ERROR_INVALID_ARGUMENT;
    return small(device, KEY_clock_max_graphics + (int)type, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor,
                                             unsigned int *out) {
    ENTER(device);
    if (sensor != 0) return NVML_ERROR_INVALID_ARGUMENT;
    return small(device, KEY_temperature, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *out) {
    unsigned int celsius;
    ENTER(device);
    if (out->version != (sizeof *out | 1u << 24)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (out->sensor > 1) return NVML_ERROR_INVALID_ARGUMENT;
    ASK(small(device, out->sensor ? KEY_hotspot : KEY_temperature_v, &celsius));
    out->temperature = (int)celsius;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan,
                                             unsigned int *out) {
    ENTER(device);
    if (fan >= MAX_FANS) return NVML_ERROR_INVALID_ARGUMENT;
    return small(device, KEY_fan_0 + (int)fan, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned int uncorrected,
                                                unsigned int aggregate, unsigned long long *out) {
    ENTER(device);
    if (uncorrected > 1 || aggregate > 1) return NVML_ERROR_INVALID_ARGUMENT;
    return large(device, KEY_ecc_corrected_volatile + (int)(2 * uncorrected + aggregate), out);
}

/* --- structures ------------------------------------------------------------------------------ */

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out) {
    ENTER(device);
    ASK(small(device, KEY_utilization, &out->gpu));
    return small(device, KEY_memory_utilization, &out->memory);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *out) {
    Value gate;
    ENTER(device);
    if (out->version != (sizeof *out | 2u << 24)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    value_at(device, KEY_memory_v2, &gate);
    if (gate.kind != UNSET) ASK(outcome(&gate));
    ASK(large(device, KEY_memory_total, &out->total));
    ASK(large(device, KEY_memory_used, &out->used));
    ASK(large(device, KEY_memory_reserved, &out->reserved));
    out->free = out->total - out->used - out->reserved;
    return NVML_SUCCESS;
}

/* The first version counts reserved memory as used. */
EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *out) {
    unsigned long long reserved = 0;
    ENTER(device);
    ASK(large(device, KEY_memory_total, &out->total));
    ASK(large(device, KEY_memory_used, &out->used));
    large(device, KEY_memory_reserved, &reserved);
    out->used += reserved;
    out->free = out->total - out->used;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *out) {
    ENTER(device);
    ASK(large(device, KEY_bar1_total, &out->total));
    out->used = 0;
    out->free = out->total;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *correctable,
                                              unsigned int *uncorrectable, unsigned int *pending,
                                              unsigned int *failed) {
    ENTER(device);
    ASK(small(device, KEY_remapped_correctable, correctable));
    ASK(small(device, KEY_remapped_uncorrectable, uncorrectable));
    ASK(small(device, KEY_remap_pending, pending));
    return small(device, KEY_remap_failed, failed);
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int place,
                                                        nvmlDevice_t *out) {
    unsigned int count;
    ENTER(device);
    ASK(small(device, KEY_mig_devices, &count));
    if (place >= count) return NVML_ERROR_NOT_FOUND;
    *out = device;
    return NVML_SUCCESS;
}

static int is_large_field(unsigned int id) {
    return (id >= 3 && id <= 28) || (id >= 74 && id <= 81) || id == 83 || id == 197 || id == 198 ||
           (id >= 251 && id <= 253) || (id >= 269 && id <= 271);
}

static void answer_field(nvmlDevice_t device, nvmlFieldValue_t *field) {
    Value value = {.kind = RETURN, .result = NVML_ERROR_INVALID_ARGUMENT};
    note(device->index, "field %u", field->field_id);
    pthread_mutex_lock(&guard);
    if (field->field_id < MAX_FIELDS)
        value = state.cards[device->index].fields[field->field_id];
    pthread_mutex_unlock(&guard);
    field->result = outcome(&value);
    if (field->result != NVML_SUCCESS) return;
    if (is_large_field(field->field_id)) {
        field->value_type = VALUE_UNSIGNED_LONG_LONG;
        field->value.large = number_of(&value);
    } else {
        field->value_type = VALUE_UNSIGNED_INT;
        field->value.small = (unsigned int)number_of(&value);
    }
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
                                             nvmlFieldValue_t *fields) {
    Value gate;
    ENTER(device);
    value_at(device, KEY_field_values, &gate);
    if (gate.kind != UNSET) ASK(outcome(&gate));
    for (int i = 0; i < count; i++) answer_field(device, &fields[i]);
    return NVML_SUCCESS;
}
