// SPDX-License-Identifier: Apache-2.0
//
// A unary call of gRPC over a Unix socket: a blocking stub, and the callback service that gRPC's
// performance guide prefers to a synchronous one. The abstract address leaves no file.
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "ask.grpc.pb.h"
#include "bench/peers/transport.h"

namespace bulkhead {
namespace {

using bench::Blob;

bool Unpack(const Blob& blob, Payload& payload) {
  if (blob.payload().size() != sizeof(payload)) return false;
  std::memcpy(&payload, blob.payload().data(), sizeof(payload));
  return true;
}
void Pack(const Payload& payload, Blob& blob) { blob.set_payload(&payload, sizeof(payload)); }

class Service final : public bench::Asked::CallbackService {
 public:
  grpc::ServerUnaryReactor* Ask(grpc::CallbackServerContext* context, const Blob* call,
                                Blob* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    Payload payload;
    if (Unpack(*call, payload)) {
      Answer(payload);
      Pack(payload, *reply);
      reactor->Finish(grpc::Status::OK);
    } else {
      reactor->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "not 48 bytes"));
    }
    return reactor;
  }
};

class Grpc final : public Transport {
 public:
  bool HasThreads() const override { return true; }

  absl::Status Prepare() override {
    address_ = absl::StrCat("unix-abstract:bulkhead-bench-", getpid());
    return absl::OkStatus();
  }

  absl::Status StartServer() override {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return absl::InternalError("gRPC can't listen");
    return absl::OkStatus();
  }

  absl::Status StartClient() override {
    stub_ =
        bench::Asked::NewStub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
    return absl::OkStatus();
  }

  void Serve() override { server_->Wait(); }

  bool Call(Payload& payload) override {
    grpc::ClientContext context;
    Blob call, reply;
    Pack(payload, call);
    return stub_->Ask(&context, call, &reply).ok() && Unpack(reply, payload);
  }

 private:
  std::string address_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<bench::Asked::Stub> stub_;
};

}  // namespace

std::unique_ptr<Transport> MakeGrpc() { return std::make_unique<Grpc>(); }

}  // namespace bulkhead
