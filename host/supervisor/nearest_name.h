// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_NEAREST_NAME_H_
#define BULKHEAD_HOST_SUPERVISOR_NEAREST_NAME_H_

#include <string>
#include <string_view>
#include <vector>

namespace bulkhead {

// Of `names` the one that `misspelt` was most likely to be; empty when none is near enough: more
// than a third of its letters would have to change.
std::string NearestName(std::string_view misspelt, const std::vector<std::string>& names);

// "; did you mean \"callbacks\"?", or nothing.
std::string DidYouMean(std::string_view misspelt, const std::vector<std::string>& names);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_NEAREST_NAME_H_
