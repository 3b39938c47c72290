// SPDX-License-Identifier: Apache-2.0
//
// Control messages for tests: what is in a built one, and one with every field set.
#ifndef BULKHEAD_TESTS_TESTING_CONTROL_MESSAGES_H_
#define BULKHEAD_TESTS_TESTING_CONTROL_MESSAGES_H_

#include <cstdint>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "ipc/abi/callbacks.h"
#include "ipc/abi/notification.h"
#include "ipc/control/envelope.h"
#include "ipc/control/host_protocol.h"
#include "ipc/generation_spec.h"

namespace bulkhead {

inline absl::Span<const uint8_t> Bytes(const ControlBuffer& buffer) {
  return {buffer.data(), buffer.size()};
}

// The message in `buffer`, which must verify and be a T.
template <typename T>
const T& Body(const ControlBuffer& buffer) {
  EXPECT_TRUE(VerifyEnvelope(Bytes(buffer)).ok()) << VerifyEnvelope(Bytes(buffer));
  const wire::Envelope* envelope = wire::GetEnvelope(buffer.data());
  // A copy: the generated constant has no definition to refer to.
  constexpr wire::Message kType = wire::MessageTraits<T>::enum_value;
  EXPECT_EQ(envelope->message_type(), kType);
  return *static_cast<const T*>(envelope->message());
}

inline AttachFields SomeAttach() {
  AttachFields fields;
  fields.generation = 3;
  fields.reason = BH_START_CRASH_RESTART;
  fields.geometry = {2, 16, 64, 32};
  fields.workers = 4;
  fields.driver_name = "scanner";
  fields.driver_path = "/opt/scanner.so";
  fields.content_path = "/opt/rules";
  fields.content_version = 7;
  fields.options = "fast";
  fields.callbacks = SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_ACCESS});
  fields.notifications = SetOf({BH_NOTIFY_FILE_DELETED, BH_NOTIFY_MODULE_LOADED});
  fields.checkpoint_bytes = 4096;
  fields.spin_ns = 20'000;
  fields.pending_calls_max = 1000;
  fields.reads = "/opt/lists\n/etc/vendor";
  fields.sandbox = 1;
  fields.standby = true;
  fields.writes = "/var/lib/vendor";
  fields.scratch_mib = 16;
  fields.sandbox_required = BH_SANDBOX_CONFINED;
  fields.group = "host-3";
  fields.group_lacks = "none here";
  fields.processes_lack = "nor these";
  return fields;
}

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_CONTROL_MESSAGES_H_
