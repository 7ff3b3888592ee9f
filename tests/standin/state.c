/* Reads the state file and answers what it says of one value.
 *
 * The file named by FARMHAND_NVML_STATE is read again when it changes, so that a test can change a
 * card's life while a process has the library open; with FARMHAND_NVML_FIXED=1 it is read once,
 * when the library is opened. Each call is appended to the file named by FARMHAND_NVML_CALLS.
 */
#include "state.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define AS_NAME(key) #key,
static const char *const library_names[] = {LIBRARY_TEXT_KEYS(AS_NAME) LIBRARY_GATE_KEYS(AS_NAME)
                                                LIBRARY_NUMBER_KEYS(AS_NAME)};
static const char *const card_names[] = {TEXT_KEYS(AS_NAME) GATE_KEYS(AS_NAME)
                                             NUMBER_KEYS(AS_NAME)};
static const char *const family_prefixes[] = {
    [FIELD] = "field_",     [GPM] = "gpm_", [NVLINK] = "nvlink_",
    [FAN_RPM] = "fan_rpm_", [FAN] = "fan_",
};
static const char *const ecc_kinds[] = {
    "ecc_corrected_volatile_",
    "ecc_corrected_aggregate_",
    "ecc_uncorrected_volatile_",
    "ecc_uncorrected_aggregate_",
};
static const char *const ecc_locations[ECC_LOCATIONS] = {
    "l1", "l2", "dram", "registers", "texture", "shared", "cbu", "sram",
};
/* In the order of the vendor's type numbers. */
static const char *const value_types[] = {
    "double", "uint", "ulong", "ulonglong", "longlong", "int", "ushort",
};

typedef struct {
    uint64_t id;
    const Value *value;
} Numbered;

typedef struct {
    const Value *keys[CARD_KEYS];
    Numbered *numbered;
    int count, room;
} Card;

struct kept {
    struct kept *next;
    max_align_t data[];
};

static struct {
    const Value *library[LIBRARY_KEYS];
    Card cards[MAX_CARDS];
    int count;
    struct kept *kept; /* all memory of this state, to let go of it at once */
} state;

static struct handle handles[MAX_CARDS];
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct stat seen;
static char seen_path[MAX_TEXT];
static int references, fixed;
static double opened_reload;

/* --- time ------------------------------------------------------------------------------------- */

double monotonic_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void sleep_seconds(double seconds) {
    double end = monotonic_seconds() + seconds;
    for (double left = seconds; left > 0; left = end - monotonic_seconds()) {
        if (left > 3600) left = 3600;
        struct timespec pause = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
        nanosleep(&pause, NULL);
    }
}

/* --- reading the state ------------------------------------------------------------------------ */

static void refuse(const char *path, int line, const char *text) {
    fprintf(stderr, "%s:%d: %s, expected a known key and value\n", path, line, text);
    abort();
}

static void *keep(const void *data, size_t size) {
    struct kept *kept = malloc(sizeof *kept + size);
    if (kept == NULL) abort();
    kept->next = state.kept;
    state.kept = kept;
    return memcpy(kept->data, data, size);
}

static void forget(void) {
    for (struct kept *next; state.kept; state.kept = next) {
        next = state.kept->next;
        free(state.kept);
    }
    for (int i = 0; i < MAX_CARDS; i++) free(state.cards[i].numbered);
    memset(&state, 0, sizeof state);
}

static char *trimmed(char *text) {
    while (*text == ' ' || *text == '\t') text++;
    size_t length = strlen(text);
    while (length && strchr(" \t\r\n", text[length - 1])) text[--length] = '\0';
    return text;
}

/* What follows a first word, or NULL where the text does not begin with it. */
static char *after(char *text, const char *word) {
    size_t length = strlen(word);
    if (strncmp(text, word, length) != 0 || (text[length] && text[length] != ' ')) return NULL;
    return trimmed(text + length);
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

/* `123`, `0x1ff`, `-5`, `2.5`, or a counter `1000 +0.5e9/s @12345.678` (monotonic seconds). */
static int number_value(char *text, Value *value) {
    char *rest, *end_of_real;
    value->kind = NUMBER;
    value->whole = strtoull(text, &rest, 0);
    value->number = *text == '-' ? (double)(long long)value->whole : (double)value->whole;
    double real = strtod(text, &end_of_real);
    if (end_of_real > rest) {
        value->number = real;
        value->whole = !isfinite(real) ? 0
                       : real < 0      ? (unsigned long long)(long long)real
                                       : (unsigned long long)real;
        rest = end_of_real;
    }
    if (rest == text) return 0;
    rest = trimmed(rest);
    if (*rest == '\0') return 1;
    return sscanf(rest, "+%lf/s @%lf", &value->per_second, &value->since) == 2;
}

typedef enum { OF_TEXT, OF_GATE, OF_NUMBER } Sort;

static int answer_value(char *text, Value *value, Sort sort) {
    if (word_value(text, value)) return 1;
    if (sort == OF_TEXT) {
        value->kind = TEXT;
        value->text = keep(text, strlen(text) + 1);
        return 1;
    }
    for (int type = 0; type < (int)(sizeof value_types / sizeof *value_types); type++) {
        char *rest = after(text, value_types[type]);
        if (rest == NULL) continue;
        value->type = type;
        return number_value(rest, value);
    }
    return number_value(text, value);
}

/* What comes before the answer: `hang`, `hang SECONDS`, `slow MILLISECONDS`, `sleep_in PATH`. */
static int parse_value(char *text, Value *value, Sort sort) {
    char *rest = text, *end;
    memset(value, 0, sizeof *value);
    value->type = -1;
    for (int hang; (hang = (text = after(rest, "hang")) != NULL) ||
                   (text = after(rest, "slow")) != NULL;) {
        double time = strtod(text, &end);
        if (end == text && (!hang || *text)) return 0;
        value->wait_seconds += end == text ? INFINITY : hang ? time : time / 1e3;
        rest = trimmed(end);
    }
    if ((text = after(rest, "sleep_in")) != NULL) {
        end = text + strcspn(text, " ");
        rest = *end ? trimmed(end + 1) : end;
        *end = '\0';
        if (*text != '/') return 0;
        value->block_file = keep(text, strlen(text) + 1);
    }
    if (*rest) return answer_value(rest, value, sort);
    value->kind = NUMBER;
    return isinf(value->wait_seconds) || sort == OF_GATE;
}

static int index_of(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

static uint64_t numbered_id(Family family, unsigned int number, int scoped, unsigned int scope) {
    return (uint64_t)family << 56 | (uint64_t)(number & 0xffff) << 40 |
           (uint64_t)(scoped != 0) << 32 | scope;
}

static int parse_numbered_key(const char *key, uint64_t *id) {
    for (int kind = 0; kind < 4; kind++) {
        size_t length = strlen(ecc_kinds[kind]);
        if (strncmp(key, ecc_kinds[kind], length) != 0) continue;
        int location = index_of(ecc_locations, ECC_LOCATIONS, key + length);
        *id = numbered_id(ECC, (unsigned int)(kind * ECC_LOCATIONS + location), 0, 0);
        return location >= 0;
    }
    for (Family family = FIELD; family <= FAN; family++) {
        size_t length = strlen(family_prefixes[family]);
        if (strncmp(key, family_prefixes[family], length) != 0) continue;
        char *rest;
        unsigned long number = strtoul(key + length, &rest, 10), scope = 0;
        int scoped = family == FIELD && rest > key + length && *rest == '_';
        if (scoped) scope = strtoul(rest + 1, &rest, 10);
        *id = numbered_id(family, (unsigned int)number, scoped, (unsigned int)scope);
        if (rest > key + length && *rest == '\0' && number <= 0xffff) return 1;
    }
    return 0;
}

static void add_numbered(Card *card, uint64_t id, const Value *value) {
    for (int i = 0; i < card->count; i++) {
        if (card->numbered[i].id != id) continue;
        card->numbered[i].value = value;
        return;
    }
    if (card->count == card->room) {
        card->room = card->room ? card->room * 2 : 64;
        card->numbered = realloc(card->numbered, (size_t)card->room * sizeof *card->numbered);
        if (card->numbered == NULL) abort();
    }
    card->numbered[card->count++] = (Numbered){id, value};
}

static int by_id(const void *one, const void *other) {
    uint64_t a = ((const Numbered *)one)->id, b = ((const Numbered *)other)->id;
    return (a > b) - (a < b);
}

static int parse_card_pair(Card *card, const char *key, char *text) {
    Value value;
    uint64_t id = 0;
    int known = index_of(card_names, CARD_KEYS, key);
    if (known < 0 && !parse_numbered_key(key, &id)) return 0;
    Sort sort = known < 0 || known >= CARD_GATES ? OF_NUMBER
                : known < CARD_TEXTS             ? OF_TEXT
                                                 : OF_GATE;
    if (!parse_value(text, &value, sort)) return 0;
    const Value *kept = keep(&value, sizeof value);
    if (known >= 0)
        card->keys[known] = kept;
    else
        add_numbered(card, id, kept);
    return 1;
}

static int parse_library_pair(const char *key, char *text) {
    Value value;
    int known = index_of(library_names, LIBRARY_KEYS, key);
    Sort sort = known >= LIBRARY_GATES ? OF_NUMBER : known < LIBRARY_TEXTS ? OF_TEXT : OF_GATE;
    if (known < 0 || !parse_value(text, &value, sort)) return 0;
    state.library[known] = keep(&value, sizeof value);
    return 1;
}

static void parse(const char *path, FILE *file) {
    char line[MAX_TEXT];
    Card *card = NULL;
    forget();
    for (int number = 1; fgets(line, sizeof line, file); number++) {
        char *text = trimmed(line), *equals;
        int index;
        if (strlen(line) == sizeof line - 1) refuse(path, number, "the line is too long");
        if (*text == '\0' || *text == '#') continue;
        if (sscanf(text, "[card %d]", &index) == 1 && index >= 0 && index < MAX_CARDS) {
            card = &state.cards[index];
            if (index >= state.count) state.count = index + 1;
            continue;
        }
        if ((equals = strchr(text, '=')) == NULL) refuse(path, number, text);
        *equals = '\0';
        char *key = trimmed(text), *value = trimmed(equals + 1);
        if (!(card ? parse_card_pair(card, key, value) : parse_library_pair(key, value)))
            refuse(path, number, key);
    }
    for (int i = 0; i < state.count; i++)
        if (state.cards[i].count)
            qsort(state.cards[i].numbered, (size_t)state.cards[i].count, sizeof(Numbered), by_id);
}

/* Whether there is a state; the guard is held. */
static int refresh(void) {
    if (fixed) return 1;
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

/* --- looking up ------------------------------------------------------------------------------- */

static __thread char looked_text[MAX_TEXT], looked_file[MAX_TEXT];

/* Copy out what the next refresh may free; the guard is held. */
static Value copied(const Value *value) {
    if (value == NULL) return (Value){.kind = UNSET};
    Value copy = *value;
    if (copy.text) copy.text = strcpy(looked_text, copy.text);
    if (copy.block_file) copy.block_file = strcpy(looked_file, copy.block_file);
    return copy;
}

Value library_value(int key) {
    pthread_mutex_lock(&guard);
    Value value = copied(state.library[key]);
    pthread_mutex_unlock(&guard);
    return value;
}

Value card_value(int card, int key) {
    pthread_mutex_lock(&guard);
    Value value = copied(state.cards[card].keys[key]);
    pthread_mutex_unlock(&guard);
    return value;
}

static const Value *find_numbered(const Card *card, uint64_t id) {
    Numbered wanted = {id, NULL}, *found = NULL;
    if (card->count)
        found = bsearch(&wanted, card->numbered, (size_t)card->count, sizeof wanted, by_id);
    return found ? found->value : NULL;
}

/* The value of this scope, else the one that stands for all scopes. */
Value numbered_value(int card, Family family, unsigned int number, unsigned int scope) {
    if (number > 0xffff) return (Value){.kind = UNSET};
    pthread_mutex_lock(&guard);
    const Value *found = find_numbered(&state.cards[card], numbered_id(family, number, 1, scope));
    if (found == NULL)
        found = find_numbered(&state.cards[card], numbered_id(family, number, 0, 0));
    Value value = copied(found);
    pthread_mutex_unlock(&guard);
    return value;
}

int has_numbered(int card, Family family) {
    int found = 0;
    pthread_mutex_lock(&guard);
    for (int i = 0; i < state.cards[card].count && !found; i++)
        found = state.cards[card].numbered[i].id >> 56 == (uint64_t)family;
    pthread_mutex_unlock(&guard);
    return found;
}

/* --- answering -------------------------------------------------------------------------------- */

/* Sleep without interruption where the file lies on a frozen file system. */
static void write_to(const char *path) {
    int out = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (out < 0 || write(out, "\n", 1) != 1) {
        perror(path);
        abort();
    }
    close(out);
}

nvmlReturn_t outcome(const Value *value) {
    if (value->wait_seconds > 0) sleep_seconds(value->wait_seconds);
    if (value->block_file) write_to(value->block_file);
    switch (value->kind) {
    case UNSET: return NVML_ERROR_NOT_SUPPORTED;
    case RETURN: return value->result;
    case CRASH:
        raise(SIGSEGV);
        abort();
    default: return NVML_SUCCESS;
    }
}

nvmlReturn_t gate(Value value) { return value.kind == UNSET ? NVML_SUCCESS : outcome(&value); }

unsigned long long whole_of(const Value *value) {
    if (value->per_second == 0) return value->whole;
    return value->whole +
           (unsigned long long)(value->per_second * (monotonic_seconds() - value->since));
}

double real_of(const Value *value) {
    if (value->per_second == 0) return value->number;
    return value->number + value->per_second * (monotonic_seconds() - value->since);
}

nvmlReturn_t large(nvmlDevice_t device, int key, unsigned long long *out) {
    Value value = card_value(device->index, key);
    nvmlReturn_t result = outcome(&value);
    if (result == NVML_SUCCESS) *out = whole_of(&value);
    return result;
}

nvmlReturn_t small(nvmlDevice_t device, int key, unsigned int *out) {
    unsigned long long whole;
    nvmlReturn_t result = large(device, key, &whole);
    if (result == NVML_SUCCESS) *out = (unsigned int)whole;
    return result;
}

nvmlReturn_t text(nvmlDevice_t device, int key, char *out, unsigned int length) {
    Value value = card_value(device->index, key);
    ASK(outcome(&value));
    if (strlen(value.text) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, value.text);
    return NVML_SUCCESS;
}

unsigned long long large_or(nvmlDevice_t device, int key, unsigned long long otherwise) {
    unsigned long long whole;
    return large(device, key, &whole) == NVML_SUCCESS ? whole : otherwise;
}

/* --- what every call begins with -------------------------------------------------------------- */

void note(int card, const char *form, ...) {
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

static int asks_for_fixed(void) {
    const char *word = getenv("FARMHAND_NVML_FIXED");
    return word != NULL && strcmp(word, "1") == 0;
}

int is_fixed(void) { return fixed; }

static double number_in(const Value *value) { return value ? value->number : 0; }

nvmlReturn_t open_library(void) {
    pthread_mutex_lock(&guard);
    fixed = 0;
    int there = refresh();
    fixed = there && asks_for_fixed();
    pthread_mutex_unlock(&guard);
    if (!there) return NVML_ERROR_DRIVER_NOT_LOADED;
    ASK(gate(library_value(KEY_init)));
    pthread_mutex_lock(&guard);
    opened_reload = number_in(state.library[KEY_reload]);
    references++;
    pthread_mutex_unlock(&guard);
    return NVML_SUCCESS;
}

nvmlReturn_t close_library(void) {
    pthread_mutex_lock(&guard);
    int opened = references > 0;
    if (opened) references--;
    pthread_mutex_unlock(&guard);
    return opened ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t library_outcome(void) {
    pthread_mutex_lock(&guard);
    int there = refresh(), opened = references > 0;
    int stale = there && number_in(state.library[KEY_reload]) != opened_reload;
    double delay_ms = there ? number_in(state.library[KEY_calls_delay_ms]) : 0;
    Value calls = copied(there ? state.library[KEY_calls] : NULL);
    pthread_mutex_unlock(&guard);
    if (!there) return NVML_ERROR_DRIVER_NOT_LOADED;
    if (!opened || stale) return NVML_ERROR_UNINITIALIZED;
    if (delay_ms > 0) sleep_seconds(delay_ms / 1e3);
    return gate(calls);
}

nvmlReturn_t card_outcome(int index) {
    pthread_mutex_lock(&guard);
    const Card *card = &state.cards[index];
    int there = index < state.count && number_in(card->keys[KEY_absent]) == 0;
    double delay_ms = number_in(card->keys[KEY_delay_ms]);
    if (number_in(card->keys[KEY_utilization]) >= 50)
        delay_ms += number_in(card->keys[KEY_loaded_delay_ms]);
    Value whole = copied(card->keys[KEY_card]);
    pthread_mutex_unlock(&guard);
    if (!there) return NVML_ERROR_GPU_IS_LOST;
    if (delay_ms > 0) sleep_seconds(delay_ms / 1e3);
    return gate(whole);
}

nvmlReturn_t enter(nvmlDevice_t device, const char *function) {
    note(device ? device->index : -1, "%s", function);
    ASK(library_outcome());
    return device ? card_outcome(device->index) : NVML_SUCCESS;
}

int card_count(void) {
    pthread_mutex_lock(&guard);
    int count = state.count;
    pthread_mutex_unlock(&guard);
    return count;
}

int is_absent(int card) {
    pthread_mutex_lock(&guard);
    int absent = card >= state.count || number_in(state.cards[card].keys[KEY_absent]) != 0;
    pthread_mutex_unlock(&guard);
    return absent;
}

nvmlDevice_t handle_of(int card) {
    handles[card].index = card;
    return &handles[card];
}
