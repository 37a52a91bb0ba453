"""One guarded tool: two refunds, one of them too large."""

import agentguard

agentguard.init()


@agentguard.tool(effect="write")
def refund(order_id: str, amount_usd: float) -> str:
    """Pay money back to a customer."""
    return f"paid USD {amount_usd:.2f} back for {order_id}"


@agentguard.agent(name="quickstart")
def agent() -> None:
    """Ask for two refunds, as a model might."""
    for amount_usd in (20.0, 4800.0):
        try:
            print(refund("A-12", amount_usd))
        except agentguard.CallDenied as denied:
            print(denied)


if __name__ == "__main__":
    with agentguard.run(principal="customer-7"):
        agent()
    agentguard.shutdown()
