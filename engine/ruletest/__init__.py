"""Unit tests of rules, in promtool's file format and with log lines: `read_tests` and `run_tests` are the interface.

```yaml
rule_files: [../promql/openclaw.yml, ../logql/bridge.yml]   # relative to the test file
evaluation_interval: 1m          # when rules are evaluated, whatever their group says (promtool does the same)
group_eval_order: [openclaw]     # groups in the order of their evaluation; the others go with the first
fuzzy_compare: false             # true: values may differ in the last bit
eager: false                     # ours; true: also at the times of matching events, as a running Sentinel does
tests:
  - name: tampering alarms at once
    interval: 1m                 # between two values of a series
    external_labels: {cluster: test}
    input_series:
      - series: 'up{job="bridge"}'
        values: '1x5 0x5 _ stale'
    input_logs:                  # ours: promtool has no logs
      - stream: '{job="bridge", level="error"}'
        lines:
          - at: 10s
            line: '{"event": "signature_verification_failed", "reason": "tampered"}'
            repeat: 5s x 12      # 12 lines in all, 5 s apart
            metadata: {trace: a1}
    alert_rule_test:
      - eval_time: 2m
        alertname: SignatureTampering
        exp_alerts:              # the firing alerts, and no others
          - exp_labels: {severity: critical}
            exp_annotations: {summary: '...'}
            exp_lines: ['...']   # ours: lines that must be among the alert's evidence
    promql_expr_test: [{expr: 'up == 0', eval_time: 9m, exp_samples: [{labels: 'up{job="bridge"}', value: 0}]}]
    logql_expr_test: []          # ours: the same for LogQL
```
"""

from engine.ruletest.model import CaseResult, TestFile
from engine.ruletest.reader import read_document, read_tests
from engine.ruletest.run import run_tests

__all__ = ["CaseResult", "TestFile", "read_document", "read_tests", "run_tests"]
