"""Stock vision-language models of transformers as teachers: their own class, their own image processor, our templates."""
