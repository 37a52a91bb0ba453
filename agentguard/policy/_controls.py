"""
Controls of public frameworks that rules may name, with their titles.

A rule that names a control *supports* it; no more is said by it, here or in any
report. Names of other frameworks are the author's own, and are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentguard.policy._problems import did_you_mean

_ASI = (
    "Agent Goal Hijack", "Tool Misuse and Exploitation", "Identity and Privilege Abuse",
    "Agentic Supply Chain Vulnerabilities", "Unexpected Code Execution", "Memory and Context Poisoning",
    "Insecure Inter-Agent Communication", "Cascading Failures", "Human-Agent Trust Exploitation", "Rogue Agents",
)  # fmt: skip
_LLM = (
    "Prompt Injection", "Sensitive Information Disclosure", "Supply Chain", "Data and Model Poisoning",
    "Improper Output Handling", "Excessive Agency", "System Prompt Leakage", "Vector and Embedding Weaknesses",
    "Misinformation", "Unbounded Consumption",
)  # fmt: skip
_NIST = {
    "GOVERN": (7, 3, 2, 3, 2, 2),
    "MAP": (6, 3, 5, 2, 2),
    "MEASURE": (3, 13, 3, 3),
    "MANAGE": (4, 4, 2, 3),
}
"""Subcategories of each category, 72 in all; their titles are long sentences."""
_NIST_SAID: Mapping[str, str] = {
    "MEASURE-2.4": "Functionality and behaviour are monitored in production",
    "MEASURE-2.7": "Security and resilience are evaluated",
    "MEASURE-2.10": "Privacy risk is examined",
    "MANAGE-2.4": "Systems can be superseded, disengaged, deactivated",
    "MANAGE-3.1": "Third-party resources are monitored, with risk controls",
    "MANAGE-4.1": "Monitoring after deployment, with override and incident response",
}
"""What some of them say, in short."""
_ISO: Mapping[str, str] = {
    "A.2.2": "AI policy",
    "A.2.3": "Alignment with other organizational policies",
    "A.2.4": "Review of the AI policy",
    "A.3.2": "AI roles and responsibilities",
    "A.3.3": "Reporting of concerns",
    "A.4.2": "Resource documentation",
    "A.4.3": "Data resources",
    "A.4.4": "Tooling resources",
    "A.4.5": "System and computing resources",
    "A.4.6": "Human resources",
    "A.5.2": "AI system impact assessment process",
    "A.5.3": "Documentation of AI system impact assessments",
    "A.5.4": "Assessing AI system impact on individuals or groups of individuals",
    "A.5.5": "Assessing societal impacts of AI systems",
    "A.6.1.2": "Objectives for responsible development of AI system",
    "A.6.1.3": "Processes for responsible AI system design and development",
    "A.6.2.2": "AI system requirements and specification",
    "A.6.2.3": "Documentation of AI system design and development",
    "A.6.2.4": "AI system verification and validation",
    "A.6.2.5": "AI system deployment",
    "A.6.2.6": "AI system operation and monitoring",
    "A.6.2.7": "AI system technical documentation",
    "A.6.2.8": "AI system recording of event logs",
    "A.7.2": "Data for development and enhancement of AI system",
    "A.7.3": "Acquisition of data",
    "A.7.4": "Quality of data for AI systems",
    "A.7.5": "Data provenance",
    "A.7.6": "Data preparation",
    "A.8.2": "System documentation and information for users",
    "A.8.3": "External reporting",
    "A.8.4": "Communication of incidents",
    "A.8.5": "Information for interested parties",
    "A.9.2": "Processes for responsible use of AI systems",
    "A.9.3": "Objectives for responsible use of AI system",
    "A.9.4": "Intended use of the AI system",
    "A.10.2": "Allocating responsibilities",
    "A.10.3": "Suppliers",
    "A.10.4": "Customers",
}
_EU_ARTICLES = 113
_EU: Mapping[int, str] = {
    9: "Risk management system",
    10: "Data and data governance",
    11: "Technical documentation",
    12: "Record-keeping",
    13: "Transparency and provision of information to deployers",
    14: "Human oversight",
    15: "Accuracy, robustness and cybersecurity",
    26: "Obligations of deployers of high-risk AI systems",
    50: "Transparency obligations for providers and deployers of certain AI systems",
    72: "Post-market monitoring by providers",
    73: "Reporting of serious incidents",
}

CONTROLS: Mapping[str, str] = {
    **{f"OWASP-ASI{number:02}": title for number, title in enumerate(_ASI, 1)},
    **{f"OWASP-LLM{number:02}": title for number, title in enumerate(_LLM, 1)},
    **{
        f"NIST-AI-RMF:{name}": _NIST_SAID.get(name, "")
        for function, counts in _NIST.items()
        for category, count in enumerate(counts, 1)
        for number in range(1, count + 1)
        for name in (f"{function}-{category}.{number}",)
    },
    **{f"ISO-42001:{number}": title for number, title in _ISO.items()},
    **{f"EU-AI-Act:{number}": _EU.get(number, "") for number in range(1, _EU_ARTICLES + 1)},
}
"""
Titles by name; empty where only the number is known here.

Source:
    OWASP Top 10 for Agentic Applications 2026; OWASP Top 10 for LLM Applications 2025; NIST AI 100-1
    (AI RMF 1.0), tables 1 to 4; ISO/IEC 42001:2023, table A.1; Regulation (EU) 2024/1689.
"""

_FRAMEWORKS = ("OWASP-ASI", "OWASP-LLM", "NIST-AI-RMF:", "ISO-42001:", "EU-AI-Act:")


def unknown_control(name: str) -> str | None:
    """
    Look a control up.

    Args:
        name:
            As a rule names it; a paragraph may follow in parentheses, such as `EU-AI-Act:26(5)`.

    Returns:
        None where it is known, or of a framework that is not known here; else what may have been meant, or empty.
    """
    if name.partition("(")[0] in CONTROLS:
        return None
    for framework in _FRAMEWORKS:
        if name.upper().startswith(framework.upper().rstrip(":")):
            return did_you_mean(name, [known for known in CONTROLS if known.startswith(framework)])
    return None
