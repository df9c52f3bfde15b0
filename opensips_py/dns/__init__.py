"""Names to addresses without waiting: a stub resolver (RFC 1034 5.3.1) and the location of SIP servers (RFC 3263).

From the inside out, each file knowing only those before it: ``records`` (what a question and an answer are), ``wire`` (DNS
messages), ``configuration`` and ``hosts`` (resolv.conf, the core parameters, /etc/hosts), ``exchange`` (one question to the
name servers), ``resolver`` (cache; one look-up serves all who wait for it), ``location`` (RFC 3263 as a function of what is
known), ``lookup`` (waiting for it: operations).

What is looked up is never handed from process to process: a question can be asked again. So the frozen state of all that
waits here is the question itself.
"""
