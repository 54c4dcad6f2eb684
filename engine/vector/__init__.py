"""Arithmetic on instant vectors, which PromQL and LogQL share: values, operators, matching, aggregations."""
