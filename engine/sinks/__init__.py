"""What is sent to other systems, and when: pure. `engine.edge` holds the connections.

`alertmanager` says which alerts an Alertmanager has to hear of now, `remote_write` how recorded series are packed,
`retry` what an answer means.
"""
