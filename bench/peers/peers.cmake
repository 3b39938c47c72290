# SPDX-License-Identifier: Apache-2.0
# The peers of bench-ipc. Each library is optional: without it the peer's file is left out here, and
# the benchmark skips the peer and names it.
target_sources(bench-ipc PRIVATE
  peers/bulkhead.cc peers/comparison.cc peers/comparison_report.cc peers/eventfd.cc peers/futex.cc
  peers/mqueue.cc peers/pair.cc peers/pipe.cc peers/raw.cc peers/seqpacket.cc peers/transport.cc)

find_package(boost_headers 1.74 QUIET CONFIG)
if(TARGET Boost::headers)
  target_sources(bench-ipc PRIVATE peers/boost.cc)
  target_link_libraries(bench-ipc PRIVATE Boost::headers)
endif()

pkg_check_modules(zeromq QUIET IMPORTED_TARGET libzmq)
if(zeromq_FOUND)
  target_sources(bench-ipc PRIVATE peers/zeromq.cc)
  target_link_libraries(bench-ipc PRIVATE PkgConfig::zeromq)
endif()

find_package(iceoryx_posh 2.0 QUIET CONFIG)
find_program(ROUDI_PROGRAM iox-roudi)
if(iceoryx_posh_FOUND AND ROUDI_PROGRAM)
  target_sources(bench-ipc PRIVATE peers/iceoryx.cc peers/private_folders.cc)
  target_link_libraries(bench-ipc PRIVATE iceoryx_posh::iceoryx_posh)
  set_source_files_properties(peers/iceoryx.cc PROPERTIES
    COMPILE_DEFINITIONS "BULKHEAD_ROUDI_PROGRAM=\"${ROUDI_PROGRAM}\"")
endif()

pkg_check_modules(grpcpp QUIET grpc++ protobuf)
find_program(PROTOC_PROGRAM protoc)
find_program(GRPC_CPP_PLUGIN_PROGRAM grpc_cpp_plugin)
if(grpcpp_FOUND AND PROTOC_PROGRAM AND GRPC_CPP_PLUGIN_PROGRAM)
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
  set(sources ${generated}/ask.pb.cc ${generated}/ask.grpc.pb.cc)
  file(MAKE_DIRECTORY ${generated})
  add_custom_command(
    OUTPUT ${sources}
    COMMAND ${PROTOC_PROGRAM} --cpp_out=${generated} --grpc_out=${generated}
            --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN_PROGRAM}
            --proto_path=${CMAKE_CURRENT_SOURCE_DIR}/peers ask.proto
    DEPENDS peers/ask.proto
    VERBATIM)
  # Generated code is compiled without this tree's warnings.
  add_library(bulkhead_bench_proto STATIC ${sources})
  target_include_directories(bulkhead_bench_proto SYSTEM PUBLIC ${generated})
  # pkg-config would list forty libraries that these load themselves.
  target_link_libraries(bulkhead_bench_proto PUBLIC grpc++ grpc gpr protobuf)
  target_sources(bench-ipc PRIVATE peers/grpc.cc)
  target_link_libraries(bench-ipc PRIVATE bulkhead_bench_proto)
endif()
