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

constexpr unsigned kOk = 200, kAccepted = 202, kBadRequest = 400, kUnauthorized = 401,
                   kForbidden = 403, kNotFound = 404, kMethodNotAllowed = 405, kConflict = 409,
                   kMisdirected = 421;
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

// Of a header "Authorization: Bearer SECRET"; empty: there is none such.
std::string_view SecretOf(const WebRequest& request) {
  constexpr std::string_view kScheme = "Bearer ";
  std::string_view text = request.authorization;
  if (!text.starts_with(kScheme)) return {};
  text.remove_prefix(kScheme.size());
  return text;
}

WebAnswer Unauthorized(const absl::Status& why) {
  return {kUnauthorized, kPlain, absl::StrCat(std::string(why.message()), "\n")};
}

WebAnswer Json(unsigned status, const nlohmann::ordered_json& json) {
  return {status, kJson,
          json.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace)};
}

// Of an action that takes its time: how it went is in the session's state.
WebAnswer Begun(const absl::Status& status) {
  if (absl::IsUnauthenticated(status)) return Unauthorized(status);
  if (!status.ok()) return {kConflict, kPlain, absl::StrCat(std::string(status.message()), "\n")};
  return Json(kAccepted, nlohmann::ordered_json::object());
}

WebAnswer SessionAnswer(const WebRequest& request, PageAdmin& admin) {
  const absl::StatusOr<PageAdmin::SessionState> state = admin.State(SecretOf(request));
  if (!state.ok()) return Unauthorized(state.status());
  nlohmann::ordered_json json = {{"user", state->user}, {"left_ms", state->left_ms}};
  if (!state->action.empty()) {
    json["action"] = {
        {"name", state->action}, {"running", state->running}, {"error", state->error}};
  }
  return Json(kOk, json);
}

WebAnswer Change(const WebRequest& request, PageAdmin& admin) {
  const std::string_view secret = SecretOf(request);
  if (request.path == "/api/sign-in") {
    const absl::StatusOr<std::string> session = admin.SignIn(secret);
    return session.ok() ? Json(kOk, {{"session", *session}}) : Unauthorized(session.status());
  }
  if (request.path == "/api/sign-out") {
    const absl::Status status = admin.SignOut(secret);
    return status.ok() ? Json(kOk, nlohmann::ordered_json::object()) : Unauthorized(status);
  }
  if (request.path == "/api/reload") return Begun(admin.Reload(secret));
  if (request.path == "/api/release") {
    return Begun(admin.Release(secret, std::string(request.driver)));
  }
  return {kMethodNotAllowed, kPlain, "only GET\n"};
}

// A browser says with each POST which origin its page is of; another program may say nothing.
bool IsOfThisOrigin(const WebRequest& request) {
  return (request.origin.empty() ||
          request.origin == absl::StrCat("http://", std::string(request.host))) &&
         (request.fetch_site.empty() || request.fetch_site == "same-origin");
}

// Of the page itself.
WebAnswer Look(const WebRequest& request, const WebSources& sources) {
  if (request.path == "/api/session") return SessionAnswer(request, *sources.admin);
  // One that has a secret wants the words: it is not given less in silence.
  const bool words = !request.authorization.empty();
  if (words && request.path.starts_with("/api/")) {
    const absl::StatusOr<PageAdmin::SessionState> state = sources.admin->State(SecretOf(request));
    if (!state.ok()) return Unauthorized(state.status());
  }
  if (request.path == "/api/status") return {kOk, kJson, sources.status(words)};
  if (request.path == "/api/events") {
    uint64_t after = 0;
    if (!request.after.empty() && !absl::SimpleAtoi(std::string(request.after), &after)) {
      return {kBadRequest, kPlain, "after: expected the number of an event\n"};
    }
    return {kOk, kJson, sources.events(after, words)};
  }
  const std::string_view path = request.path == "/" ? "/page.html" : request.path;
  for (const EmbeddedFile& file : PageFiles()) {
    if (path.starts_with('/') && path.substr(1) == file.name) {
      return {kOk, TypeOf(file.name), std::string(file.text)};
    }
  }
  return {kNotFound, kPlain, "the page is at /\n"};
}

}  // namespace

WebAnswer Answer(const WebRequest& request, const WebSources& sources) {
  const bool changes = request.method == "POST" && sources.admin != nullptr;
  if (request.method != "GET" && request.method != "HEAD" && !changes) {
    return {kMethodNotAllowed, kPlain, "only GET\n"};
  }
  if (!NamesThisMachine(request.host)) {
    return {kMisdirected, kPlain,
            "the header Host names another machine; ask localhost, 127.0.0.1 or [::1]\n"};
  }
  if (changes ? !IsOfThisOrigin(request) : IsOfAnotherSite(request)) {
    return {kForbidden, kPlain, "a page of another site may not ask for this\n"};
  }
  if (changes) return Change(request, *sources.admin);
  if (request.path == "/metrics") {
    return {kOk, "text/plain; version=0.0.4; charset=utf-8", sources.metrics()};
  }
  if (sources.admin == nullptr) {
    return {kNotFound, kPlain,
            "the metrics are at /metrics; with page = true in the configuration there is a page\n"};
  }
  return Look(request, sources);
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
