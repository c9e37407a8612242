"""Delivery, end to end: calls and their responses, over any number of hops and through failures.

`outputs`   what the machine hands to the shell: plain tuples, on one ordered list
`lane`      one numbered flow of packets: acks, round trips, resending, order
`channel`   one direction of use between two lives: a cookie, two lanes, what waits to be sent
`streams`   one call with its responses, at either end
`bodies`    large payloads, cut into chunks under credit
`wheel`     many deadlines, few timers
`delivery`  the machine
"""
