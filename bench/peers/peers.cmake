# SPDX-License-Identifier: Apache-2.0
# The peers of bench-ipc. Each library is optional: a peer whose file is left out here is skipped by
# its name when the benchmark runs. Sanitizers don't go with libraries that know nothing of them.
target_sources(bench-ipc PRIVATE
  peers/bulkhead.cc peers/comparison.cc peers/comparison_report.cc peers/eventfd.cc peers/futex.cc
  peers/mqueue.cc peers/pair.cc peers/pipe.cc peers/raw.cc peers/seqpacket.cc peers/transport.cc)

if(BULKHEAD_SANITIZE)
  return()
endif()

find_package(boost_headers 1.74 QUIET CONFIG)
if(TARGET Boost::headers)
  target_sources(bench-ipc PRIVATE peers/boost.cc)
  target_link_libraries(bench-ipc PRIVATE Boost::headers)
endif()
