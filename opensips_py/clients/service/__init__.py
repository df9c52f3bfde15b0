"""Servers that operations ask one question at a time, over connections that are kept: Redis, LDAP.

A :class:`~opensips_py.clients.service.pool.Pool` has a process' connections to one service, a
:class:`~opensips_py.clients.service.operation.ServiceOperation` is one question and its answer. What is said on the connection
is for the module that describes the :class:`~opensips_py.clients.service.description.Service`.
"""
