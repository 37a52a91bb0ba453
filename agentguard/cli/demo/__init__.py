"""`agentguard demo`: six ways an agent dies, and what stops each."""
