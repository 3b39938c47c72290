// SPDX-License-Identifier: Apache-2.0
//
// A few plain rules, to have more than one. Replace this folder by rules of your own: --rules DIR.

rule bulkhead_marker
{
    meta:
        about = "a string of our own, for trying things out without an anti-virus product's attention"
    strings:
        $marker = "BULKHEAD-TEST-MARKER-DENY-ME"
    condition:
        $marker
}

rule shell_fetches_and_runs
{
    meta:
        about = "a shell script that pipes a download into a shell"
    strings:
        $fetch = /(curl|wget)[^\n|]{1,200}\|\s*(ba|da)?sh\b/
    condition:
        uint16(0) == 0x2123 and $fetch
}
