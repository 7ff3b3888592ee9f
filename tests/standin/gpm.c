/* GPM: metrics between two samples. `gpm = 1` is a card that has it, `gpm_10` the metric 10. */
#include "state.h"

#include <stdlib.h>

#define GPM_VERSION 1

struct gpm_sample {
    int card;
    double taken; /* monotonic seconds, 0 while nothing was taken */
};

EXPORT nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support) {
    ENTER(device);
    if (support->version != GPM_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = small(device, KEY_gpm, &support->supported);
    if (result != NVML_ERROR_NOT_SUPPORTED) return result;
    support->supported = 0;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) {
    ENTER(NULL);
    *sample = calloc(1, sizeof **sample);
    if (*sample == NULL) abort();
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    note(-1, "%s", __func__);
    free(sample);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
    unsigned int supported;
    ENTER(device);
    ASK(small(device, KEY_gpm, &supported));
    if (!supported) return NVML_ERROR_NOT_SUPPORTED;
    *sample = (struct gpm_sample){device->index, monotonic_seconds()};
    return NVML_SUCCESS;
}

static int are_a_pair(const struct gpm_sample *first, const struct gpm_sample *second) {
    return first && second && first->card == second->card && first->taken > 0 &&
           first->taken < second->taken;
}

static void answer_metric(int card, nvmlGpmMetric_t *metric) {
    Value value = numbered_value(card, GPM, metric->id, 0);
    metric->result = outcome(&value);
    if (metric->result == NVML_SUCCESS) metric->value = real_of(&value);
}

EXPORT nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get) {
    ASK(library_outcome());
    if (get->version != GPM_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!are_a_pair(get->first, get->second)) return NVML_ERROR_INVALID_ARGUMENT;
    note(get->first->card, "%s", __func__);
    for (unsigned int i = 0; i < get->count; i++) answer_metric(get->first->card, &get->metrics[i]);
    return NVML_SUCCESS;
}
