/* A stand-in for libnvidia-ml.so.1, driven by a text file whose form is told in README.md. */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_FIELDS 512
#define NOT_AVAILABLE 0xffffffffffffffffULL
#define NO_INSTANCE 0xffffffffu
#define THROUGHPUT_WINDOW_SECONDS 0.02

/* --- the library ------------------------------------------------------------------------------ */

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    note(-1, "%s", __func__);
    return open_library();
}

EXPORT nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT nvmlReturn_t nvmlShutdown(void) {
    note(-1, "%s", __func__);
    return close_library();
}

EXPORT const char *nvmlErrorString(nvmlReturn_t result) {
    (void)result;
    return "an error of the stand-in";
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned int length) {
    ENTER(NULL);
    Value driver = library_value(KEY_driver);
    ASK(outcome(&driver));
    snprintf(out, length, "%s", driver.text);
    return NVML_SUCCESS;
}

/* --- enumeration ------------------------------------------------------------------------------ */

/* Section number of the card that the driver enumerates at `place`, or -1. */
static int enumerated(unsigned int place) {
    int count = card_count();
    for (int card = 0; card < count; card++)
        if (!is_absent(card) && place-- == 0) return card;
    return -1;
}

/* How many cards the driver enumerates before a section number. */
static unsigned int place_of(int index) {
    unsigned int place = 0;
    for (int card = 0; card < index; card++) place += !is_absent(card);
    return place;
}

static nvmlReturn_t open_card(int card, const char *function, nvmlDevice_t *device) {
    note(card, "%s", function);
    ASK(card_outcome(card));
    ASK(gate(card_value(card, KEY_handle)));
    *device = handle_of(card);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    ENTER(NULL);
    *count = place_of(card_count());
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int place, nvmlDevice_t *device) {
    ASK(library_outcome());
    int card = enumerated(place);
    return card < 0 ? NVML_ERROR_INVALID_ARGUMENT : open_card(card, __func__, device);
}

typedef struct {
    unsigned int domain, bus, device;
} Address;

/* `0000:0c:00.0` with a domain of four or eight digits, in either case. */
static int parse_address(const char *text, Address *address) {
    unsigned int function = 0;
    return sscanf(text, "%x:%x:%x.%u", &address->domain, &address->bus, &address->device,
                  &function) >= 3;
}

static int card_at(Address wanted) {
    int count = card_count();
    for (int card = 0; card < count; card++) {
        Address address;
        Value text = card_value(card, KEY_pci_address);
        if (!is_absent(card) && text.kind == TEXT && parse_address(text.text, &address) &&
            memcmp(&address, &wanted, sizeof address) == 0)
            return card;
    }
    return -1;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *text, nvmlDevice_t *device) {
    Address wanted;
    ASK(library_outcome());
    if (text == NULL || !parse_address(text, &wanted)) return NVML_ERROR_INVALID_ARGUMENT;
    int card = card_at(wanted);
    return card < 0 ? NVML_ERROR_NOT_FOUND : open_card(card, __func__, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *out) {
    ENTER(device);
    *out = place_of(device->index);
    return NVML_SUCCESS;
}

/* --- identity --------------------------------------------------------------------------------- */

#define TEXT_CALL(function, key)                                                                   \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, char *out, unsigned int length) {            \
        ENTER(device);                                                                             \
        return text(device, KEY_##key, out, length);                                               \
    }

TEXT_CALL(nvmlDeviceGetUUID, uuid)
TEXT_CALL(nvmlDeviceGetName, name)
TEXT_CALL(nvmlDeviceGetSerial, serial)
TEXT_CALL(nvmlDeviceGetVbiosVersion, vbios)
TEXT_CALL(nvmlDeviceGetBoardPartNumber, part_number)
TEXT_CALL(nvmlDeviceGetInforomImageVersion, inforom)

/* The caller's buffer is as long as the interface says. */
EXPORT nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *out) {
    ENTER(device);
    return text(device, KEY_gsp_firmware, out, 64);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info) {
    ENTER(device);
    memset(info, 0, sizeof *info);
    ASK(text(device, KEY_pci_address, info->bus_id, sizeof info->bus_id));
    sscanf(info->bus_id, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    info->pci_device_id = (unsigned int)large_or(device, KEY_pci_device_id, 0);
    info->pci_subsystem_id = (unsigned int)large_or(device, KEY_pci_subsystem_id, 0);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major,
                                                       int *minor) {
    char told[16];
    ENTER(device);
    ASK(text(device, KEY_compute_capability, told, sizeof told));
    return sscanf(told, "%d.%d", major, minor) == 2 ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

/* `inforom_valid` is 1, or says which error the check ends with. */
EXPORT nvmlReturn_t nvmlDeviceValidateInforom(nvmlDevice_t device) {
    unsigned int valid;
    ENTER(device);
    return small(device, KEY_inforom_valid, &valid);
}

/* --- plain numbers ---------------------------------------------------------------------------- */

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

NUMBER_CALL(nvmlDeviceGetMinorNumber, minor_number)
NUMBER_CALL(nvmlDeviceGetBrand, brand)
NUMBER_CALL(nvmlDeviceGetArchitecture, architecture)
NUMBER_CALL(nvmlDeviceGetInforomConfigurationChecksum, inforom_checksum)
NUMBER_CALL(nvmlDeviceGetPersistenceMode, persistence_mode)
NUMBER_CALL(nvmlDeviceGetPerformanceState, performance_state)
NUMBER_CALL(nvmlDeviceGetPowerUsage, power_usage)
NUMBER_CALL(nvmlDeviceGetPowerManagementLimit, power_limit)
NUMBER_CALL(nvmlDeviceGetEnforcedPowerLimit, power_limit_enforced)
NUMBER_CALL(nvmlDeviceGetPowerManagementDefaultLimit, power_limit_default)
NUMBER_CALL(nvmlDeviceGetMemoryBusWidth, memory_bus)
NUMBER_CALL(nvmlDeviceGetNumGpuCores, cores)
NUMBER_CALL(nvmlDeviceGetNumFans, fans)
NUMBER_CALL(nvmlDeviceGetFanSpeed, fan)
NUMBER_CALL(nvmlDeviceGetCurrPcieLinkGeneration, pcie_generation)
NUMBER_CALL(nvmlDeviceGetCurrPcieLinkWidth, pcie_width)
NUMBER_CALL(nvmlDeviceGetMaxPcieLinkGeneration, pcie_generation_max)
NUMBER_CALL(nvmlDeviceGetGpuMaxPcieLinkGeneration, pcie_generation_max_card)
NUMBER_CALL(nvmlDeviceGetMaxPcieLinkWidth, pcie_width_max)
NUMBER_CALL(nvmlDeviceGetPcieReplayCounter, pcie_replay)
NUMBER_CALL(nvmlDeviceGetRetiredPagesPendingStatus, retired_pages_pending)
NUMBER_CALL(nvmlDeviceGetMaxMigDeviceCount, mig_devices_max)
LARGE_CALL(nvmlDeviceGetCurrentClocksEventReasons, event_reasons)
LARGE_CALL(nvmlDeviceGetCurrentClocksThrottleReasons, throttle_reasons)
LARGE_CALL(nvmlDeviceGetTotalEnergyConsumption, energy)
LARGE_CALL(nvmlDeviceGetSupportedEventTypes, supported_events)

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

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned int threshold,
                                                      unsigned int *out) {
    ENTER(device);
    if (threshold > 7) return NVML_ERROR_INVALID_ARGUMENT;
    return small(device, KEY_threshold_shutdown + (int)threshold, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned int uncorrected,
                                                unsigned int aggregate, unsigned long long *out) {
    ENTER(device);
    if (uncorrected > 1 || aggregate > 1) return NVML_ERROR_INVALID_ARGUMENT;
    return large(device, KEY_ecc_corrected_volatile + (int)(2 * uncorrected + aggregate), out);
}

/* Blocks as the driver does, which counts for this long. */
EXPORT nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, unsigned int counter,
                                                unsigned int *out) {
    ENTER(device);
    if (counter > 1) return NVML_ERROR_INVALID_ARGUMENT;
    ASK(small(device, KEY_pcie_tx_kilobytes + (int)counter, out));
    sleep_seconds(THROUGHPUT_WINDOW_SECONDS);
    return NVML_SUCCESS;
}

/* --- numbers by number ------------------------------------------------------------------------ */

static nvmlReturn_t numbered(nvmlDevice_t device, Family family, unsigned int number,
                             unsigned long long *out) {
    Value value = numbered_value(device->index, family, number, 0);
    ASK(outcome(&value));
    *out = whole_of(&value);
    return NVML_SUCCESS;
}

static nvmlReturn_t small_numbered(nvmlDevice_t device, Family family, unsigned int number,
                                   unsigned int *out) {
    unsigned long long whole;
    ASK(numbered(device, family, number, &whole));
    *out = (unsigned int)whole;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan,
                                             unsigned int *out) {
    ENTER(device);
    return small_numbered(device, FAN, fan, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetFanSpeedRPM(nvmlDevice_t device, nvmlFanSpeedInfo_t *out) {
    ENTER(device);
    if (out->version != VERSION_OF(*out, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return small_numbered(device, FAN_RPM, out->fan, &out->speed);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, unsigned int uncorrected,
                                                    unsigned int aggregate, unsigned int location,
                                                    unsigned long long *out) {
    ENTER(device);
    if (uncorrected > 1 || aggregate > 1 || location >= ECC_LOCATIONS)
        return NVML_ERROR_INVALID_ARGUMENT;
    return numbered(device, ECC, ECC_NUMBER(uncorrected, aggregate, location), out);
}

/* A link that a card with links does not have is a wrong argument. */
static nvmlReturn_t link_there(nvmlDevice_t device, unsigned int link) {
    Value state = numbered_value(device->index, NVLINK, link, 0);
    if (state.kind != UNSET) return NVML_SUCCESS;
    return has_numbered(device->index, NVLINK) ? NVML_ERROR_INVALID_ARGUMENT
                                               : NVML_ERROR_NOT_SUPPORTED;
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link,
                                             unsigned int *out) {
    ENTER(device);
    ASK(link_there(device, link));
    return small_numbered(device, NVLINK, link, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned int link,
                                               unsigned int *out) {
    ENTER(device);
    ASK(link_there(device, link));
    return small(device, KEY_nvlink_version, out);
}

/* --- pairs and structures --------------------------------------------------------------------- */

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *out) {
    unsigned int celsius;
    ENTER(device);
    if (out->version != VERSION_OF(*out, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (out->sensor > 1) return NVML_ERROR_INVALID_ARGUMENT;
    ASK(small(device, out->sensor ? KEY_hotspot : KEY_temperature_v, &celsius));
    out->temperature = (int)celsius;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device,
                                                   nvmlMarginTemperature_t *out) {
    unsigned int margin;
    ENTER(device);
    if (out->version != VERSION_OF(*out, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    ASK(small(device, KEY_temperature_margin, &margin));
    out->margin = (int)margin;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device,
                                                                 unsigned int *minimum,
                                                                 unsigned int *maximum) {
    ENTER(device);
    ASK(small(device, KEY_power_limit_min, minimum));
    return small(device, KEY_power_limit_max, maximum);
}

/* The same for all performance states. */
EXPORT nvmlReturn_t nvmlDeviceGetClockOffsets(nvmlDevice_t device, nvmlClockOffset_t *out) {
    unsigned int offset;
    ENTER(device);
    if (out->version != VERSION_OF(*out, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (out->type > 2 || out->pstate > 15) return NVML_ERROR_INVALID_ARGUMENT;
    int key = KEY_clock_offset_graphics + 3 * (int)out->type;
    ASK(small(device, key, &offset));
    out->offset = (int)offset;
    out->minimum = (int)large_or(device, key + 1, 0);
    out->maximum = (int)large_or(device, key + 2, 0);
    return NVML_SUCCESS;
}

/* A mode that is pending is the present one, unless it is named. */
static nvmlReturn_t modes(nvmlDevice_t device, int key, unsigned int *current,
                          unsigned int *pending) {
    ASK(small(device, key, current));
    *pending = (unsigned int)large_or(device, key + 1, *current);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned int *current,
                                         unsigned int *pending) {
    ENTER(device);
    return modes(device, KEY_ecc_mode, current, pending);
}

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current,
                                         unsigned int *pending) {
    ENTER(device);
    return modes(device, KEY_mig_mode, current, pending);
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

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out) {
    ENTER(device);
    ASK(small(device, KEY_utilization, &out->gpu));
    return small(device, KEY_memory_utilization, &out->memory);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *out) {
    ENTER(device);
    if (out->version != VERSION_OF(*out, 2)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    ASK(gate(card_value(device->index, KEY_memory_v2)));
    ASK(large(device, KEY_memory_total, &out->total));
    ASK(large(device, KEY_memory_used, &out->used));
    ASK(large(device, KEY_memory_reserved, &out->reserved));
    out->free = out->total - out->used - out->reserved;
    return NVML_SUCCESS;
}

/* The first version counts reserved memory as used. */
EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *out) {
    ENTER(device);
    ASK(large(device, KEY_memory_total, &out->total));
    ASK(large(device, KEY_memory_used, &out->used));
    out->used += large_or(device, KEY_memory_reserved, 0);
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

/* --- memory that wears out -------------------------------------------------------------------- */

static unsigned long long sram_corrected(nvmlDevice_t device, unsigned int aggregate) {
    unsigned long long count;
    unsigned int sram = ECC_LOCATIONS - 1;
    nvmlReturn_t result = numbered(device, ECC, ECC_NUMBER(0, aggregate, sram), &count);
    return result == NVML_SUCCESS ? count : 0;
}

EXPORT nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device,
                                                    nvmlEccSramErrorStatus_t *out) {
    ENTER(device);
    if (out->version != VERSION_OF(*out, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    ASK(small(device, KEY_sram_threshold_exceeded, &out->threshold_exceeded));
    out->volatile_parity = large_or(device, KEY_sram_parity_volatile, 0);
    out->volatile_secded = large_or(device, KEY_sram_secded_volatile, 0);
    out->volatile_corrected = sram_corrected(device, 0);
    out->aggregate_parity = large_or(device, KEY_sram_parity_aggregate, 0);
    out->aggregate_secded = large_or(device, KEY_sram_secded_aggregate, 0);
    out->aggregate_corrected = sram_corrected(device, 1);
    out->l2 = large_or(device, KEY_sram_l2, 0);
    out->sm = large_or(device, KEY_sram_sm, 0);
    out->pcie = large_or(device, KEY_sram_pcie, 0);
    out->microcontroller = large_or(device, KEY_sram_microcontroller, 0);
    out->other = large_or(device, KEY_sram_other, 0);
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

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device,
                                                 nvmlRemappedRowsInfo_v2_t *out) {
    ENTER(device);
    ASK(gate(card_value(device->index, KEY_remapped_rows_v2)));
    ASK(small(device, KEY_remapped_correctable, &out->correctable));
    ASK(small(device, KEY_remapped_uncorrectable, &out->uncorrectable));
    out->correctable_inactive =
        (unsigned int)large_or(device, KEY_remapped_correctable_inactive, 0);
    out->uncorrectable_inactive =
        (unsigned int)large_or(device, KEY_remapped_uncorrectable_inactive, 0);
    ASK(small(device, KEY_remap_pending, &out->pending));
    return small(device, KEY_remap_failed, &out->failed);
}

EXPORT nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device,
                                                      nvmlRowRemapperHistogramValues_t *out) {
    ENTER(device);
    ASK(small(device, KEY_remap_banks_max, &out->max));
    ASK(small(device, KEY_remap_banks_high, &out->high));
    ASK(small(device, KEY_remap_banks_partial, &out->partial));
    ASK(small(device, KEY_remap_banks_low, &out->low));
    return small(device, KEY_remap_banks_none, &out->none);
}

EXPORT nvmlReturn_t nvmlDeviceGetUnrepairableMemoryFlag_v1(nvmlDevice_t device,
                                                           nvmlUnrepairableMemoryStatus_t *out) {
    ENTER(device);
    if (out->version != VERSION_OF(*out, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return small(device, KEY_memory_unrepairable, &out->unrepairable);
}

EXPORT nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, nvmlRepairStatus_t *out) {
    ENTER(device);
    if (out->version != VERSION_OF(*out, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    ASK(small(device, KEY_channel_repair_pending, &out->channel_pending));
    return small(device, KEY_tpc_repair_pending, &out->tpc_pending);
}

EXPORT nvmlReturn_t nvmlDeviceGetBBXTimeData_v1(nvmlDevice_t device, nvmlBBXTimeData_t *out) {
    ENTER(device);
    return small(device, KEY_power_on_seconds, &out->seconds);
}

/* --- processes -------------------------------------------------------------------------------- */

/* Take the next `PID:BYTES` or `PID:n/a` off a list that is `none` or such entries. */
static int next_process(const char **list, nvmlProcessInfo_t *process) {
    unsigned int pid;
    int length = 0;
    if (sscanf(*list, "%u:%n", &pid, &length) != 1 || length == 0) return 0;
    char *end;
    const char *bytes = *list + length;
    unsigned long long memory = strtoull(bytes, &end, 10);
    if (end == bytes) memory = NOT_AVAILABLE;
    *process = (nvmlProcessInfo_t){pid, memory, NO_INSTANCE, NO_INSTANCE};
    *list = bytes + strcspn(bytes, " ");
    return 1;
}

static nvmlReturn_t processes(nvmlDevice_t device, int key, unsigned int *count,
                              nvmlProcessInfo_t *out) {
    unsigned int room = *count, found = 0;
    nvmlProcessInfo_t process;
    Value value = card_value(device->index, key);
    ASK(outcome(&value));
    for (const char *list = value.text; next_process(&list, &process); found++)
        if (out != NULL && found < room) out[found] = process;
    *count = found;
    return found <= room ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

#define PROCESS_CALL(function, key)                                                                \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned int *count,                         \
                                 nvmlProcessInfo_t *out) {                                         \
        ENTER(device);                                                                             \
        return processes(device, KEY_##key, count, out);                                           \
    }

PROCESS_CALL(nvmlDeviceGetComputeRunningProcesses_v3, compute_processes)
PROCESS_CALL(nvmlDeviceGetGraphicsRunningProcesses_v3, graphics_processes)
PROCESS_CALL(nvmlDeviceGetMPSComputeRunningProcesses_v3, mps_processes)

/* --- field values ----------------------------------------------------------------------------- */

static int within(unsigned int id, unsigned int low, unsigned int high) {
    return id >= low && id <= high;
}

/* Type that a field usually has; a state may name another. */
static int usual_type(unsigned int id) {
    if (within(id, 193, 196)) return VALUE_SIGNED_INT;
    if (within(id, 3, 28) || within(id, 32, 81) || id == 83 || within(id, 96, 131) ||
        within(id, 138, 141) || within(id, 148, 163) || id == 191 || within(id, 197, 198) ||
        within(id, 201, 222) || within(id, 235, 253) || within(id, 269, 271))
        return VALUE_UNSIGNED_LONG_LONG;
    return VALUE_UNSIGNED_INT;
}

static void fill_field(nvmlFieldValue_t *field, const Value *value) {
    unsigned long long whole = whole_of(value);
    field->value_type = (unsigned int)(value->type < 0 ? usual_type(field->field_id) : value->type);
    switch (field->value_type) {
    case VALUE_DOUBLE: field->value.real = real_of(value); break;
    case VALUE_UNSIGNED_INT: field->value.small = (unsigned int)whole; break;
    case VALUE_UNSIGNED_LONG: field->value.plain = (unsigned long)whole; break;
    case VALUE_SIGNED_LONG_LONG: field->value.signed_large = (long long)whole; break;
    case VALUE_SIGNED_INT: field->value.signed_small = (int)whole; break;
    case VALUE_UNSIGNED_SHORT: field->value.tiny = (unsigned short)whole; break;
    default: field->value.large = whole;
    }
}

static int64_t wall_microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void answer_field(nvmlDevice_t device, nvmlFieldValue_t *field) {
    Value value = {.kind = RETURN, .result = NVML_ERROR_INVALID_ARGUMENT};
    double started = monotonic_seconds();
    if (field->scope_id)
        note(device->index, "field %u %u", field->field_id, field->scope_id);
    else
        note(device->index, "field %u", field->field_id);
    if (field->field_id < MAX_FIELDS)
        value = numbered_value(device->index, FIELD, field->field_id, field->scope_id);
    field->result = outcome(&value);
    field->timestamp_us = wall_microseconds();
    field->latency_us = (int64_t)((monotonic_seconds() - started) * 1e6);
    if (field->result == NVML_SUCCESS) fill_field(field, &value);
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
                                             nvmlFieldValue_t *fields) {
    ENTER(device);
    ASK(gate(card_value(device->index, KEY_field_values)));
    for (int i = 0; i < count; i++) answer_field(device, &fields[i]);
    return NVML_SUCCESS;
}
