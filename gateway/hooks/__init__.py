"""Webhooks: tells the receivers of the operator's choice what became of tasks."""
