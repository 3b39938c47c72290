// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/transport.h"

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

std::vector<TransportKind> RawAndOurs() {
  return {
      {"raw", "raw cache lines, spinning", "", false, &MakeRaw},
      {"bulkhead", "Bulkhead call, spinning", "", false, [] { return MakeBulkhead(true); }},
  };
}

}  // namespace

std::vector<TransportKind> PeerKinds() {
  std::vector<TransportKind> kinds = RawAndOurs();
  // With '&': std::function detects a null pointer.
  for (TransportKind& peer : std::vector<TransportKind>{
           {"bulkhead_asleep", "Bulkhead call, both sleep", "", false,
            [] { return MakeBulkhead(false); }},
           {"futex", "futex, both sleep", "libc6", true, &MakeFutex},
           {"eventfd", "eventfd, payload in shared memory", "libc6", true, &MakeEventfd},
           {"pipe", "pipe", "libc6", true, &MakePipe},
           {"seqpacket", "Unix socket, SOCK_SEQPACKET", "libc6", true, &MakeSeqpacket},
           {"mqueue", "POSIX message queue", "libc6", true, &MakeMqueue},
           {"boost_spinning", "Boost.Interprocess message_queue, try_receive", "libboost1.74-dev",
            true, &MakeBoostSpinning},
           {"boost_blocking", "Boost.Interprocess message_queue, receive", "libboost1.74-dev", true,
            &MakeBoostBlocking},
           {"iceoryx_spinning", "iceoryx request and response, take() in a loop",
            "libiceoryx-posh-dev iceoryx", true, &MakeIceoryxSpinning},
           {"iceoryx_waitset", "iceoryx request and response, WaitSet",
            "libiceoryx-posh-dev iceoryx", true, &MakeIceoryxWaitSet},
           {"zeromq", "ZeroMQ REQ and REP over ipc://", "libzmq3-dev", true, &MakeZeroMq},
           {"grpc", "gRPC over a Unix socket", "libgrpc++-dev protobuf-compiler-grpc", true,
            &MakeGrpc},
       }) {
    kinds.push_back(std::move(peer));
  }
  return kinds;
}

}  // namespace bulkhead
