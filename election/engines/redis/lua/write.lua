-- Writes entries to the ledger in order, all of them or none: entries that may refuse the write come first.
-- ARGV: prefix, term ('' where none is needed), bounds of the histograms, then entries of ten each: a name, and its
-- arguments. Numbers stay text, since a time in microseconds would lose digits in a conversion.
local answers = {}
for place = 4, #ARGV, 10 do
  local answer = does[ARGV[place]](unpack(ARGV, place + 1, place + 9))
  if type(answer) == 'table' then
    return answer
  end
  table.insert(answers, answer)
end
return answers
