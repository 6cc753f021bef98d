"""What providers do not bill: a verdict of OpenAI's moderation, Anthropic's count of tokens."""

import anthropic
import openai

openai.OpenAI().moderations.create(input="hello")
asked = [{"role": "user", "content": "hello"}]
anthropic.Anthropic().messages.count_tokens(model="claude-haiku-4-5", messages=asked)
