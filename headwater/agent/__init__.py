"""All Tools: a model that calls tools by itself, and what it may call.

    async with Toolbox([Interpreter(InterpreterSettings()), FunctionTool(function)]) as box:
        async for event in Agent(WorkerModel(worker, params), box, budgets=Budgets(steps=6)).run(messages):
            print(wire(event) or event)

Tools are in `interpreter`, `browser`, `functions` and `mcp`; docs/agent.md has the whole of it.
"""
