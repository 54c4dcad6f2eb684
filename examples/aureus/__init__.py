"""A stand-in for the Aureus stack: something real for Sentinel to watch and to repair.

Three HTTP services (`bridge` verifies signed messages, `aureus_os` decides on policies, `openclaw` is the chat
gateway) with metrics, pushed JSON logs, PostgreSQL tables and admin calls, and a seeded load generator with
switchable faults. Nothing is played back: a fault is real traffic, and a repair works because the service reacts.

Reading order: `__main__` (how it is put together), `service` (what all three share), `signatures` and `bridge`,
`aureus_os`, `connections` and `openclaw`, `loadgen`, `faults`.
"""
