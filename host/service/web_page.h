// SPDX-License-Identifier: Apache-2.0
//
// What the service answers over HTTP: the metrics, and the page of host/service/page with what it
// reads, and what it asks for a user that is signed in (page_admin.h).
//
// Trust: any user of the machine may ask, so what is told without a session is what readers of the
// operators' socket are told: no words of a driver's, no objects and processes of denials. And any
// web site that an administrator's browser shows may make that browser ask. A site must learn
// nothing by it, and change nothing:
//  1. Its own name may lead to this machine (DNS rebinding): Host has to be a name of this machine.
//  2. It may embed or fetch what is here: only this page's own requests, and links to it, get an
//     answer from a browser that says where a request comes from; no answer allows other origins.
//  3. Texts of drivers and users are in the answers: they travel as JSON, and the page's
//     Content-Security-Policy lets no script, style or markup but its own files in.
//  4. What changes something is asked by POST, with a session's secret in a header that no site can
//     have a browser send, and by no page of another origin.
#ifndef BULKHEAD_HOST_SERVICE_WEB_PAGE_H_
#define BULKHEAD_HOST_SERVICE_WEB_PAGE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "host/service/embedded_file.h"
#include "host/service/page_admin.h"
#include "ipc/control/operator_protocol.h"

namespace bulkhead {

struct WebSources {
  std::function<std::string()> metrics;  // as Prometheus reads them
  // Of the page; all empty: there is none. `words`: for one that is signed in.
  std::function<std::string(bool words)> status;                  // StatusBody()
  std::function<std::string(uint64_t after, bool words)> events;  // EventsBody()
  PageAdmin* admin = nullptr;
};

// What of a request an answer depends on; empty: the request does not have it.
struct WebRequest {
  std::string_view method, path;
  std::string_view host;                    // a header, as the next two
  std::string_view fetch_site, fetch_mode;  // Sec-Fetch-Site, Sec-Fetch-Mode
  std::string_view origin, authorization;   // headers
  std::string_view after, driver;           // in the query
};

struct WebAnswer {
  unsigned status = 0;
  const char* type = "";
  std::string body;
};

WebAnswer Answer(const WebRequest& request, const WebSources& sources);

struct WebHeader {
  const char* name;
  const char* value;
};
// Of every answer.
std::span<const WebHeader> WebHeaders();

// An element of "running" of `bulkhead status --json`, and "resident_bytes" by process.
std::string StatusBody(const StatusFields& status);
// {"newest": N, "lost": N, "events": [as of `bulkhead events --json`, …]}
std::string EventsBody(const EventsFields& events);

// host/service/page.
std::span<const EmbeddedFile> PageFiles();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_WEB_PAGE_H_
