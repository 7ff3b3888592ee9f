/* The state that the stand-in answers from, and the steps that every call begins with. */
#ifndef FARMHAND_STANDIN_STATE_H
#define FARMHAND_STANDIN_STATE_H

#include "nvml.h"

#define EXPORT __attribute__((visibility("default")))
#define MAX_CARDS 64
#define MAX_TEXT 4096

struct handle {
    int index;
};

/* --- what can be asked ------------------------------------------------------------------------ */

/* Before the first card. Gates say what a call returns before it answers anything. */
#define LIBRARY_TEXT_KEYS(X) X(driver)
#define LIBRARY_GATE_KEYS(X) X(init) X(calls) X(event_wait)
#define LIBRARY_NUMBER_KEYS(X) X(reload) X(calls_delay_ms)

/* Of a card. */
#define TEXT_KEYS(X)                                                                               \
    X(uuid) X(name) X(serial) X(vbios) X(pci_address) X(part_number) X(inforom) X(gsp_firmware)    \
    X(compute_capability) X(compute_processes) X(graphics_processes) X(mps_processes) X(xids)
#define GATE_KEYS(X)                                                                               \
    X(card) X(handle) X(memory_v2) X(field_values) X(remapped_rows_v2)
#define NUMBER_KEYS(X)                                                                             \
    X(absent) X(delay_ms) X(loaded_delay_ms) X(pci_device_id) X(pci_subsystem_id) X(minor_number)  \
    X(brand) X(architecture) X(inforom_checksum) X(inforom_valid) X(persistence_mode)              \
    X(performance_state) X(utilization) X(memory_utilization) X(clock_graphics) X(clock_sm)        \
    X(clock_memory) X(clock_video) X(clock_max_graphics) X(clock_max_sm) X(clock_max_memory)       \
    X(clock_max_video) X(clock_offset_graphics) X(clock_offset_graphics_min)                       \
    X(clock_offset_graphics_max) X(clock_offset_sm) X(clock_offset_sm_min) X(clock_offset_sm_max)  \
    X(clock_offset_memory) X(clock_offset_memory_min) X(clock_offset_memory_max) X(power_usage)    \
    X(power_limit) X(power_limit_enforced) X(power_limit_default) X(power_limit_min)               \
    X(power_limit_max) X(energy) X(temperature) X(temperature_v) X(hotspot) X(temperature_margin)  \
    X(threshold_shutdown) X(threshold_slowdown) X(threshold_memory_max) X(threshold_gpu_max)       \
    X(threshold_acoustic_min) X(threshold_acoustic_current) X(threshold_acoustic_max)              \
    X(threshold_gps) X(memory_total) X(memory_used) X(memory_reserved) X(bar1_total) X(memory_bus) \
    X(cores) X(fans) X(fan) X(event_reasons) X(throttle_reasons) X(pcie_generation) X(pcie_width)  \
    X(pcie_generation_max) X(pcie_generation_max_card) X(pcie_width_max) X(pcie_replay)            \
    X(pcie_tx_kilobytes) X(pcie_rx_kilobytes) X(ecc_mode) X(ecc_mode_pending)                      \
    X(ecc_corrected_volatile) X(ecc_corrected_aggregate) X(ecc_uncorrected_volatile)               \
    X(ecc_uncorrected_aggregate) X(sram_threshold_exceeded) X(sram_parity_volatile)                \
    X(sram_parity_aggregate) X(sram_secded_volatile) X(sram_secded_aggregate) X(sram_l2)           \
    X(sram_sm) X(sram_pcie) X(sram_microcontroller) X(sram_other) X(retired_pages_pending)         \
    X(remapped_correctable) X(remapped_uncorrectable) X(remapped_correctable_inactive)             \
    X(remapped_uncorrectable_inactive) X(remap_pending) X(remap_failed) X(remap_banks_max)         \
    X(remap_banks_high) X(remap_banks_partial) X(remap_banks_low) X(remap_banks_none)              \
    X(memory_unrepairable) X(channel_repair_pending) X(tpc_repair_pending) X(power_on_seconds)     \
    X(mig_mode) X(mig_mode_pending) X(mig_devices_max) X(mig_devices) X(nvlink_version) X(gpm)     \
    X(supported_events)

#define AS_ENUM(key) KEY_##key,
enum {
    LIBRARY_TEXT_KEYS(AS_ENUM) LIBRARY_TEXTS,
    LIBRARY_BEFORE_GATES = LIBRARY_TEXTS - 1,
    LIBRARY_GATE_KEYS(AS_ENUM) LIBRARY_GATES,
    LIBRARY_BEFORE_NUMBERS = LIBRARY_GATES - 1,
    LIBRARY_NUMBER_KEYS(AS_ENUM) LIBRARY_KEYS
};
enum {
    TEXT_KEYS(AS_ENUM) CARD_TEXTS,
    CARD_BEFORE_GATES = CARD_TEXTS - 1,
    GATE_KEYS(AS_ENUM) CARD_GATES,
    CARD_BEFORE_NUMBERS = CARD_GATES - 1,
    NUMBER_KEYS(AS_ENUM) CARD_KEYS
};

/* Keys with a number in their name: `field_82`, `field_161_3`, `gpm_10`, `nvlink_0`, `fan_1`,
 * `fan_rpm_1`, and `ecc_corrected_volatile_dram` by kind and location. */
typedef enum { FIELD, GPM, NVLINK, FAN_RPM, FAN, ECC } Family;

#define ECC_LOCATIONS 8
#define ECC_NUMBER(uncorrected, aggregate, location)                                               \
    ((2 * (uncorrected) + (aggregate)) * ECC_LOCATIONS + (location))

/* --- what is answered ------------------------------------------------------------------------- */

typedef enum { UNSET, NUMBER, TEXT, RETURN, CRASH } Kind;

typedef struct {
    Kind kind;
    nvmlReturn_t result;
    int type; /* of a field value, or -1 for the type that the field usually has */
    double number, per_second, since;
    unsigned long long whole;
    double wait_seconds;    /* before the answer; infinite for `hang` */
    const char *block_file; /* written to before the answer, or NULL */
    const char *text;
} Value;

/* Look a value up; its texts stay until this thread's next look. */
Value library_value(int key);
Value card_value(int card, int key);
Value numbered_value(int card, Family family, unsigned int number, unsigned int scope);
int has_numbered(int card, Family family);

/* Return code of a value after what it does first: wait, block, crash. */
nvmlReturn_t outcome(const Value *value);
/* The same of a gate, which lets pass when it is not set. */
nvmlReturn_t gate(Value value);

unsigned long long whole_of(const Value *value);
double real_of(const Value *value);

nvmlReturn_t large(nvmlDevice_t device, int key, unsigned long long *out);
nvmlReturn_t small(nvmlDevice_t device, int key, unsigned int *out);
nvmlReturn_t text(nvmlDevice_t device, int key, char *out, unsigned int length);
/* Number of a key, or `otherwise` where the card does not have it. */
unsigned long long large_or(nvmlDevice_t device, int key, unsigned long long otherwise);

/* --- what every call begins with -------------------------------------------------------------- */

/* The state before the first card is read; a driver that is not there is NULL's answer. */
nvmlReturn_t open_library(void);
nvmlReturn_t close_library(void);

void note(int card, const char *form, ...) __attribute__((format(printf, 2, 3)));
/* What the library as a whole returns now. */
nvmlReturn_t library_outcome(void);
/* What a card as a whole returns now, after its delays. */
nvmlReturn_t card_outcome(int card);
/* All of it: the note, the library's and the card's; `device` may be NULL. */
nvmlReturn_t enter(nvmlDevice_t device, const char *function);

/* Whether the state was read once and for all. */
int is_fixed(void);

int card_count(void);
int is_absent(int card);
nvmlDevice_t handle_of(int card);

double monotonic_seconds(void);
void sleep_seconds(double seconds);

#define ASK(expression)                                                                            \
    do {                                                                                           \
        nvmlReturn_t asked = (expression);                                                         \
        if (asked != NVML_SUCCESS) return asked;                                                   \
    } while (0)

#define ENTER(device) ASK(enter(device, __func__))

#endif
