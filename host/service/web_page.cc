// SPDX-License-Identifier: Apache-2.0
#include "host/service/web_page.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "host/service/event_fields.h"
#include "host/service/resident_bytes.h"
#include "host/service/status_json.h"

namespace bulkhead {
namespace {

constexpr unsigned kOk = 200, kBadRequest = 400, kForbidden = 403, kNotFound = 404,
                   kMethodNotAllowed = 405, kMisdirected = 421;
constexpr char kPlain[] = "text/plain; charset=utf-8";
constexpr char kJson[] = "application/json";

constexpr WebHeader kHeaders[] = {
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
     "require-trusted-types-for 'script'; trusted-types 'none'"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
};

// "localhost", an address of the loopback network, each with a port or without. The port may be
// another than the service's: that of a tunnel.
bool NamesThisMachine(std::string_view host) {
  const size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    const std::string_view port = host.substr(colon + 1);
    if (!std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      return false;
    }
    host = host.substr(0, colon);
  }
  const std::string name(host);
  if (absl::EqualsIgnoreCase(name, "localhost") || name == "[::1]") return true;
  in_addr address = {};
  return inet_pton(AF_INET, name.c_str(), &address) == 1 &&
         (ntohl(address.s_addr) >> 24) == IN_LOOPBACKNET;
}

// A browser that says nothing about it is not kept out: its other rules hold.
bool IsOfAnotherSite(const WebRequest& request) {
  return !request.fetch_site.empty() && request.fetch_site != "same-origin" &&
         request.fetch_site != "none" && request.fetch_mode != "navigate";
}

const char* TypeOf(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".svg")) return "image/svg+xml";
  return "text/javascript; charset=utf-8";
}

}  // namespace

WebAnswer Answer(const WebRequest& request, const WebSources& sources) {
  if (request.method != "GET" && request.method != "HEAD") {
    return {kMethodNotAllowed, kPlain, "only GET\n"};
  }
  if (!NamesThisMachine(request.host)) {
    return {kMisdirected, kPlain,
            "the header Host names another machine; ask localhost, 127.0.0.1 or [::1]\n"};
  }
  if (IsOfAnotherSite(request)) {
    return {kForbidden, kPlain, "a page of another site may not ask for this\n"};
  }
  if (request.path == "/metrics") {
    return {kOk, "text/plain; version=0.0.4; charset=utf-8", sources.metrics()};
  }
  if (!sources.status) {
    return {kNotFound, kPlain,
            "the metrics are at /metrics; with page = true in the configuration there is a page\n"};
  }
  if (request.path == "/api/status") return {kOk, kJson, sources.status()};
  if (request.path == "/api/events") {
    uint64_t after = 0;
    if (!request.after.empty() && !absl::SimpleAtoi(std::string(request.after), &after)) {
      return {kBadRequest, kPlain, "after: expected the number of an event\n"};
    }
    return {kOk, kJson, sources.events(after)};
  }
  const std::string_view path = request.path == "/" ? "/page.html" : request.path;
  for (const EmbeddedFile& file : PageFiles()) {
    if (path.starts_with('/') && path.substr(1) == file.name) {
      return {kOk, TypeOf(file.name), std::string(file.text)};
    }
  }
  return {kNotFound, kPlain, "the page is at /\n"};
}

std::span<const WebHeader> WebHeaders() { return kHeaders; }

std::string StatusBody(const StatusFields& status) {
  nlohmann::ordered_json json = StatusJson(status);
  for (const auto& [process, bytes] : ResidentBytes(status)) {
    json["resident_bytes"][process] = bytes;
  }
  return json.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

std::string EventsBody(const EventsFields& events) {
  std::vector<std::string> texts;
  for (const EventFields& event : events.events) texts.push_back(EventJson(event));
  return absl::StrCat("{\"newest\":", events.newest, ",\"lost\":", events.lost, ",\"events\":[",
                      absl::StrJoin(texts, ","), "]}");
}

}  // namespace bulkhead
