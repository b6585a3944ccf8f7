"""The JSON of AgentOS's API as Pydantic models, for the OpenAPI document.

Only the document is made of them: responses are built as plain JSON, and the tests compare all they see with the
document. So nothing imports this package when a server starts.
"""
